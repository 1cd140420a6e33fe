"""The first programs of the documents, as a reader would type them: run by the SDKs' own packages on `perdure dev`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from perdure.client import Client, RunInfo
from tests.support.dev_server import DevServer
from tests.support.sdk_apps import SDK, environment, eventually, node

DOCS = Path(__file__).parents[2] / "docs"
LANGUAGES = ["ts", "py"]
WANTED = {"receipt": "receipt of o-17", "parcel": "parcel with o-17"}


def program(page: str, language: str) -> str:
    """The one program in a language that a page has."""
    page_text = (DOCS / page).read_text(encoding="utf-8")
    (text,) = re.findall(rf"^```{language}\n(.*?)^```", page_text, re.DOTALL | re.MULTILINE)
    return str(text)


@contextmanager
def started(folder: Path, command: list[str], server: str) -> Generator[None]:
    """A program in a process of its own. What it printed is told with a failure."""
    log = folder / "program.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment({"INNGEST_DEV": server}), stdout=output, stderr=output
        )
    try:
        yield
    except AssertionError as error:
        error.add_note(log.read_text(errors="replace"))
        raise
    finally:
        process.kill()
        process.wait()


def command_of(folder: Path, name: str, text: str, language: str) -> list[str]:
    """Saves a program; how node or Python runs it."""
    if language == "ts":
        (folder / "node_modules").symlink_to(SDK / "node_modules")
        (folder / f"{name}.mts").write_text(text)
        return [node(), f"{name}.mts"]
    (folder / f"{name}.py").write_text(text)
    return [sys.executable, f"{name}.py"]


async def result(client: Client, event: str, data: dict[str, str]) -> object:
    """What the one run of an event gave."""
    (event_id,) = await client.send({"name": event, "data": data})

    async def ended() -> RunInfo | None:
        runs = [await client.get_run(run_id) for run_id in await client.runs_of_event(event_id)]
        return runs[0] if runs and runs[0].ended else None

    run = await eventually(ended, "run that has ended")
    assert run.status == "COMPLETED", run
    return run.output


@pytest.fixture
async def client(sdks: None, tmp_path: Path) -> AsyncGenerator[Client, None]:
    with DevServer(tmp_path, "--db", ":memory:", "--no-discovery") as server:
        async with Client(server.url) as found:
            yield found


async def registered(client: Client, slug: str) -> None:
    async def ask() -> bool:
        return slug in [function["id"] for function in await client.functions()]

    await eventually(ask, f"function {slug}")


@pytest.mark.parametrize("language", LANGUAGES)
async def test_an_app_that_is_called(client: Client, tmp_path: Path, free_port: int, language: str) -> None:
    text = program("sdk-apps.md", language)
    assert language == "py" or ".listen(3000)" in text
    command = command_of(tmp_path, "shop", text.replace(".listen(3000)", f".listen({free_port})"), language)
    if language == "py":
        command = [sys.executable, "-m", "uvicorn", "shop:api", "--port", str(free_port)]
    with started(tmp_path, command, client.base_url):
        async with aiohttp.ClientSession() as http:

            async def register() -> bool:
                try:
                    async with http.put(f"http://localhost:{free_port}/api/inngest") as answer:
                        return answer.status == 200
                except aiohttp.ClientConnectionError:
                    return False

            await eventually(register, "app that registers")
        assert await result(client, "shop/order.created", {"order": "o-17"}) == WANTED


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_worker(client: Client, tmp_path: Path, language: str) -> None:
    command = command_of(tmp_path, "worker", program("connect.md", language), language)
    with started(tmp_path, command, client.base_url):
        await registered(client, "mailer-greet")
        assert await result(client, "shop/customer.created", {"name": "Ada"}) == "Hello Ada"

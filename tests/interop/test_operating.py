"""The commands that operate runs and functions, and the client's methods behind them, against a real server."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Generator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from perdure.cli import main
from perdure.client import ApiError, Client
from perdure.model.ids import step_hash
from perdure.model.json import Json
from tests.support.dev_server import DevServer

APP = """
from perdure import App, Context, NonRetriableError, step

app, other = App("shop"), App("books")
calls = []

def count(name: str) -> int:
    calls.append(name)
    return len(calls)

@app.function("greet", trigger="shop/greet")
async def greet(ctx: Context) -> str:
    if not ctx.event.data.get("name"):
        raise NonRetriableError("who?")
    return "Hello " + ctx.event.data["name"]

@app.function("two", trigger="shop/two")
async def two(ctx: Context) -> list[int]:
    return [await step.run("first", count, "first"), await step.run("second", count, "second")]

@app.function("bell", trigger="shop/bell")
async def bell(ctx: Context) -> object:
    signal = await step.wait_for_signal("wait", signal="bell", timeout="1d")
    return signal.data

@app.function("same", trigger="shop/same")
async def same(ctx: Context) -> None: ...

@other.function("same", trigger="shop/other")
async def same_of_books(ctx: Context) -> None: ...
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[DevServer, None, None]:
    folder: Path = tmp_path_factory.mktemp("operating")
    (folder / "operating_app.py").write_text(APP)
    apps = ("operating_app.py:app", "operating_app.py:other")
    with DevServer(folder, *apps, "--db", ":memory:", "--no-reload") as started:
        yield started
        assert started.stop() == 0


def run(server: DevServer, *arguments: str, input: str | None = None) -> Result:
    return CliRunner().invoke(main, [*arguments, "--url", server.url], input=input)


def run_id_of(result: Result) -> str:
    assert result.exit_code == 0, result.output
    found = re.fullmatch(r"run (\w{26})\n", result.output)
    assert found is not None, result.output
    return found[1]


def result_of(server: DevServer, run_id: str) -> object:
    shown = run(server, "run", run_id, "--wait", "--json")
    assert shown.exit_code == 0, shown.output
    return json.loads(shown.stdout)["run"]["output"]


def test_invoke_prints_the_result(server: DevServer) -> None:
    waited = run(server, "invoke", "shop-greet", '{"name": "Zoë"}', "--wait")
    assert (waited.exit_code, waited.stdout) == (0, '"Hello Zoë"\n')
    assert waited.stderr.startswith("run 01")
    first = run_id_of(run(server, "invoke", "greet", "-", "--id", "one", input='{"name": "Ada"}'))
    assert run_id_of(run(server, "invoke", "greet", '{"name": "Bob"}', "--id", "one")) == first
    assert result_of(server, first) == "Hello Ada"


def test_invoke_that_fails(server: DevServer) -> None:
    failed = run(server, "invoke", "greet", "--wait")
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert "FAILED: NonRetriableError: who?" in failed.stderr
    unknown = run(server, "invoke", "nope")
    assert (unknown.exit_code, unknown.output) == (1, "Error: Function not found: nope (HTTP 404)\n")
    several = run(server, "invoke", "same")
    assert several.exit_code == 1 and "same is in several apps; use one of books-same, shop-same" in several.output
    run_id_of(run(server, "invoke", "books-same"))


def test_signal(server: DevServer) -> None:
    run_id = run_id_of(run(server, "invoke", "bell"))
    nobody = run(server, "signal", "door")
    assert nobody.exit_code == 1 and nobody.output == "no run waits for signal door\n"
    # The run may not wait yet: nothing but asking again tells.
    tries = (run(server, "signal", "bell", "[1, 2]") for _ in range(100))
    sent = next(each for each in tries if each.exit_code == 0)
    assert sent.output == f"run {run_id} got it\n"
    assert result_of(server, run_id) == [1, 2]


def test_rerun(server: DevServer) -> None:
    run_id = run_id_of(run(server, "invoke", "two"))
    first, second = json.loads(json.dumps(result_of(server, run_id)))
    partial = run_id_of(run(server, "rerun", run_id, "--from", "second"))
    assert result_of(server, partial) == [first, second + 1]
    partial = run_id_of(run(server, "rerun", run_id, "--from", step_hash("second")))
    assert result_of(server, partial) == [first, second + 2]
    assert result_of(server, run_id_of(run(server, "rerun", run_id))) == [second + 3, second + 4]
    unknown = run(server, "rerun", run_id, "--from", "third")
    assert (unknown.exit_code, unknown.output) == (1, "Error: Step not found in original run (HTTP 400)\n")
    assert "Run not found" in run(server, "rerun", "01M811P18277Y0AMMWSQ8QVTTA").output


def test_pause_and_resume(server: DevServer) -> None:
    assert run(server, "pause", "two").output == "function shop-two is paused\n"
    functions = {line.split()[0]: line.split()[1] for line in run(server, "functions").output.splitlines()[1:]}
    assert functions["shop-two"] == "paused" and functions["shop-greet"] == "active"
    doctor = run(server, "doctor")
    assert doctor.exit_code == 0 and "shop-two is paused" in doctor.output
    refused = run(server, "invoke", "two")
    assert refused.exit_code == 1 and "the function is paused" in refused.output
    assert run(server, "resume", "shop-two").output == "function shop-two is resumed\n"
    assert "is paused" not in run(server, "doctor").output
    run_id_of(run(server, "invoke", "two"))
    assert run(server, "pause", "nope").exit_code == run(server, "resume", "nope").exit_code == 1


async def _rests(client: Client, run_id: str) -> None:
    async with asyncio.timeout(30):
        while not (await client.call("GET", f"/v2/runs/{run_id}/steps"))["data"]["steps"]:
            await asyncio.sleep(0.05)


async def _output(client: Client, run_id: str) -> Json:
    async with asyncio.timeout(30):
        while (found := await client.get_run(run_id)).status != "COMPLETED":
            await asyncio.sleep(0.05)
    return found.output


def test_the_client(server: DevServer) -> None:
    async def operate() -> None:
        async with Client(server.url) as client:
            run_id = await client.invoke("shop-greet", {"name": "Ada"}, id="client")
            assert await client.invoke("greet", {"name": "Eve"}, id="client") == run_id
            assert (await client.get_run(await client.rerun(run_id))).function_id == "shop-greet"
            assert await client.signal("nobody", {"k": 1}) is None
            with pytest.raises(ApiError, match="signal is required"):
                await client.signal("")
            assert await client.pause("greet") == await client.resume("greet") == "shop-greet"
            waiting = await client.invoke("bell")
            await _rests(client, waiting)
            assert await client.skip_step(waiting, "wait", {"rung": True}) == step_hash("wait")
            assert await _output(client, waiting) == {"rung": True}
            with pytest.raises(ApiError, match="has ended") as error:
                await client.wake_step(waiting, "wait")
            assert error.value.status == 409
            waiting = await client.invoke("bell")
            await _rests(client, waiting)
            assert await client.wake_step(waiting, step_hash("wait")) == step_hash("wait")
            with pytest.raises(ApiError, match="Run not found"):
                await client.skip_step("01M811P18277Y0AMMWSQ8QVTTA", "wait")

    asyncio.run(operate())

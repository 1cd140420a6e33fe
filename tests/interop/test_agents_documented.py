"""The examples of docs/agents-http.md: curl, Python and TypeScript ask the documented app, each as it is printed."""

from __future__ import annotations

import asyncio
import os
import re
import types
from pathlib import Path

import pytest

from perdure import embedded
from perdure.client import Client
from perdure.model.json import Json
from tests.support.hosting import asgi_server
from tests.support.mcp_packages import install, node
from tests.support.sdk_apps import NotInstalled

PAGE = (Path(__file__).parents[2] / "docs/agents-http.md").read_text(encoding="utf-8")
FOLDER = Path(__file__).parent / "agents"
pytestmark = pytest.mark.timeout(120)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def documented() -> types.ModuleType:
    """What the Python of the page makes, but for the users, who would ask everybody for tokens."""
    module = types.ModuleType("helpdesk")
    for block in blocks("python"):
        if "set_users" not in block:
            exec(compile(block, "docs/agents-http.md", "exec"), module.__dict__)
    return module


async def test_curl_and_python_ask_the_documented_app(tmp_path: Path) -> None:
    page: Json = documented()
    async with embedded(page.app, db=tmp_path / "helpdesk.db") as engine, asgi_server(engine.asgi()) as url:
        commands = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("curl ")]
        assert len(commands) > 6
        for command in commands:
            asking = await asyncio.create_subprocess_shell(
                command.replace("localhost:8288", url.removeprefix("http://")), stdout=asyncio.subprocess.PIPE
            )
            told = (await asyncio.wait_for(asking.communicate(), 30))[0].decode()
            assert asking.returncode == 0, f"{command}: {told}"
            if "approve-tool-call-generate" in command:
                assert '"refunded":42' in told
        async with Client(url) as client:
            assert await page.ask(client) == "Echo: Where is my order?"
            assert '"refunded":42' in await page.approve(client)
            assert '"ok":true' in await page.paint(client)
            assert await page.talk(client) == ["signal", "assistant"]


async def test_typescript_asks_the_documented_app(tmp_path: Path) -> None:
    try:
        install(FOLDER)
    except NotInstalled as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"npm cannot install the clients: {error}")
    page: Json = documented()
    program = FOLDER / f"documented-{os.getpid()}.mjs"
    checks = """
    if (result.text !== "Echo: Where is my order?") throw new Error(result.text);
    if (approved.toolResults[0].payload.result.refunded !== 42) throw new Error("not approved");
    if (!painted.text.includes('"ok":true')) throw new Error(painted.text);
    process.exit(0);
    """
    async with embedded(page.app, db=tmp_path / "helpdesk.db") as engine, asgi_server(engine.asgi()) as url:
        # Beside the packages, so that node finds them.
        text = "\n".join(blocks("typescript")) + checks
        program.write_text(text.replace("http://localhost:8288", url), encoding="utf-8")
        try:
            code, printed, told = await node(program.name, folder=FOLDER)
        finally:
            program.unlink()
    assert code == 0, told
    assert "Echo: Where is it?" in printed

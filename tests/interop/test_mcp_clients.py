"""The official clients and test suites of the Model Context Protocol against a server of perdure."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from perdure.capability.mcp import CapabilityDoor
from perdure.model.json import Json
from perdure.server.mcp.tools import TOOLSETS
from tests.support.dev_server import DevServer
from tests.support.hosting import asgi_server
from tests.support.mcp_fixtures import fixture_server
from tests.support.mcp_packages import install, node, program
from tests.support.sdk_apps import NotInstalled
from tests.support.upstreams import FOLDER, FakeUpstream, faces, running

CONFORMANCE = "@modelcontextprotocol/conformance"
INSPECTOR = "@modelcontextprotocol/inspector"
# What the extensions ask for; the revision itself is run as a whole.
EXTENSIONS = (
    "tasks-lifecycle", "tasks-capability-negotiation", "tasks-wire-fields", "tasks-request-state-removal",
    "tasks-mrtr-input", "tasks-request-headers", "tasks-dispatch-and-envelope", "tasks-required-task-error",
    "tasks-mrtr-composition", "sep-2640-skills-directory", "sep-2640-skills-enumeration", "sep-2640-skills-manifest",
    "http-header-validation", "http-custom-header-server-validation",
)  # fmt: skip
APP = """
from perdure import App, Context
app = App("shop")

@app.function("order", trigger="shop/ordered")
async def order(ctx: Context) -> dict:
    return {"got": ctx.event.data}
"""


@pytest.fixture(scope="module")
def packages() -> None:
    """The packages of npm, installed. Where npm cannot, the tests are skipped; in CI that is a failure."""
    try:
        install()
    except NotInstalled as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"npm cannot install the packages: {error}")


@pytest.fixture(scope="module")
async def fixtures(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[str, None]:
    async with fixture_server(tmp_path_factory.mktemp("mcp")) as url:
        yield url


async def test_the_stateless_revision_is_conformed_to(packages: None, fixtures: str, tmp_path: Path) -> None:
    code, printed, told = await conformance(fixtures, tmp_path, "--requirements", "2026-07-28")
    assert code == 0, printed[-3000:] + told[-1000:]


async def test_the_last_older_revision_is_conformed_to(packages: None, fixtures: str, tmp_path: Path) -> None:
    code, printed, told = await conformance(fixtures, tmp_path, "--requirements", "2025-11-25")
    assert code == 0, printed[-3000:] + told[-1000:]


@pytest.mark.parametrize("scenario", EXTENSIONS)
async def test_extensions_are_conformed_to(packages: None, fixtures: str, scenario: str, tmp_path: Path) -> None:
    code, printed, told = await conformance(fixtures, tmp_path, "--scenario", scenario)
    assert code == 0, printed[-3000:] + told[-1000:]


async def conformance(url: str, folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Runs the suite against a server."""
    return await node(program(CONFORMANCE, "dist/index.js"), "server", "--url", url, *arguments, "-o", str(folder))


async def test_the_inspector_finds_nothing_in_the_tools_of_a_server(packages: None, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    with DevServer(tmp_path, "shop.py", "--db", ":memory:", "--no-discovery", "--no-reload") as server:
        every = ",".join(TOOLSETS)
        assert await inspected(f"{server.url}/mcp?toolsets={every}") > 30


async def test_the_inspector_finds_nothing_in_the_tools_of_a_capability(packages: None) -> None:
    upstream = FakeUpstream(lambda request: {})
    one = running("events-api.yaml", upstream, EVENTS_TOKEN="a")
    two = running("workflow.yaml", upstream, WORKFLOW_SIGNING_KEY="b")
    async with asgi_server(CapabilityDoor([*faces(one, "mcp"), *faces(two, "mcp")])) as url:
        assert await inspected(f"{url}/mcp") == 13


async def inspected(url: str) -> int:
    """How many tools the Inspector lists; fails where it finds an error in their schemas."""
    code, printed, told = await node(
        program(INSPECTOR, "clients/launcher/build/index.js"), "--cli", url, "--transport", "http",
        "--method", "tools/list", "--strict", "--format", "json",
    )  # fmt: skip
    # It ends with 6 for a schema that clients cannot read, and warns of one that not all read.
    assert code == 0 and "Warning" not in told, told[-3000:]
    return len(json.loads(printed)["result"]["tools"])


@pytest.mark.parametrize(
    "arguments", [("old.mjs",), ("new.mjs", "auto"), ("new.mjs", "legacy"), ("new.mjs", "pin:2026-07-28")]
)
async def test_clients_in_typescript(packages: None, fixtures: str, arguments: tuple[str, ...]) -> None:
    name, *mode = arguments
    code, printed, told = await node(name, fixtures, "greet", '{"name": "Ada"}', *mode)
    assert code == 0, told
    found = json.loads(printed)
    assert {"greet", "get_run", "list_functions"} <= set(found["tools"])
    assert found["result"]["content"] == [{"type": "text", "text": "Hello, Ada!"}]


@pytest.mark.parametrize("mode", ["auto", "legacy", "2026-07-28"])
async def test_the_client_in_python(fixtures: str, mode: Json) -> None:
    async with Client(fixtures, mode=mode) as client:
        assert "greet" in {each.name for each in (await client.list_tools()).tools}
        result = await client.call_tool("get_run", {"runId": "none"})
        assert result.is_error
        assert (await client.list_prompts()).prompts[0].name == "debug_run"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_stdio(tmp_path: Path, mode: Json) -> None:
    (tmp_path / "shop.py").write_text(APP)
    with DevServer(tmp_path, "shop.py", "--db", ":memory:", "--no-discovery", "--no-reload") as server:
        commands = {
            "list_functions": ["mcp", "--stdio", "--url", server.url, "--read-only"],
            "run_shop-order": ["mcp", "--stdio", "--url", server.url, "--toolsets", "run"],
            "listfunctions": [
                "capability", "run", str(FOLDER / "events-api.yaml"), "--stdio", "--url", server.url,
                "--set", "EVENTS_TOKEN=x",
            ],
        }  # fmt: skip
        for tool, command in commands.items():
            parameters = StdioServerParameters(
                command=sys.executable, args=["-m", "perdure", *command], env=dict(os.environ)
            )
            async with Client(stdio_client(parameters), mode=mode) as client:
                assert tool in {each.name for each in (await client.list_tools()).tools}
                assert not (await client.call_tool(tool, {})).is_error

"""Every method of the published client of the agents protocol, called on a server of agents, request by request.

`agents/scenarios.json` has what is called (`agents/replay.mjs` calls it) and what is answered: the ones with a number
were called on a server of that protocol, too, and `differs` says where the answer here is another one. Ids and times
are not compared. The table of methods is `agents/methods.json`: no method of the client may be missing in it.

`python -m tests.interop.test_agents_replays` writes down what is answered now; look at every difference.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from perdure import embedded
from perdure.model.json import Json, decode, encode
from tests.support.agents_diff import brief, differences, normal
from tests.support.agents_http import agents_app
from tests.support.hosting import asgi_server
from tests.support.mcp_packages import install
from tests.support.sdk_apps import NotInstalled, environment

FOLDER = Path(__file__).parent / "agents"
SCENARIOS: Json = decode((FOLDER / "scenarios.json").read_bytes())
METHODS: Json = decode((FOLDER / "methods.json").read_bytes())
NAMES = [scenario["name"] for scenario in SCENARIOS]
PATIENCE = 150.0
pytestmark = pytest.mark.timeout(200)


@pytest.fixture(scope="module")
def client() -> None:
    try:
        install(FOLDER)
    except NotInstalled as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"npm cannot install the client: {error}")


async def _called(url: str) -> Json:
    """What came of all scenarios, beside each other, and which methods the client has."""
    command = shutil.which("node", path=environment({})["PATH"])
    assert command is not None
    process = await asyncio.create_subprocess_exec(
        command, "replay.mjs", url, cwd=FOLDER, env=environment({}), stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE):
            printed, told = await process.communicate(encode(SCENARIOS))
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, told.decode()
    return decode(printed)


async def _served(path: Path) -> Json:
    async with embedded(agents_app(), db=path) as engine, asgi_server(engine.asgi()) as url:
        return await _called(url)


@pytest.fixture(scope="module")
def called(client: None, tmp_path_factory: pytest.TempPathFactory) -> Json:
    return asyncio.run(_served(tmp_path_factory.mktemp("agents") / "agents.db"))


def comparable(exchange: Json, unordered: bool) -> Json:
    """An exchange without what differs from run to run."""
    found: Json = {name: normal(exchange.get(name)) for name in ("method", "path", "status", "done")}
    if "events" not in exchange:
        return {**found, "body": brief(normal(exchange.get("body")))}
    events = brief(normal(exchange["events"]))
    return {**found, "events": sorted(events, key=encode) if unordered else events}


@pytest.mark.parametrize("name", NAMES)
def test_the_client_is_answered_as_it_expects(called: Json, name: str) -> None:
    (scenario,) = [each for each in SCENARIOS if each["name"] == name]
    (found,) = [each for each in called["replays"] if each["name"] == name]
    assert found["failures"] == scenario["failures"]
    unordered = bool(scenario.get("unordered"))
    answers = [comparable(exchange, unordered) for exchange in found["exchanges"]]
    assert list(differences(scenario["exchanges"], answers)) == []


def test_every_method_of_the_client_is_called_or_told_why_not(called: Json) -> None:
    for kind, methods in called["methods"].items():
        table: Json = METHODS[kind]
        assert sorted(table) == sorted(methods), kind
        steps = [step for scenario in SCENARIOS for step in scenario["steps"]]
        mine = {"client": {"agent", "thread"}, "agent": {"agent"}, "thread": {"thread"}, "tool": set()}[kind]
        for method, where in table.items():
            if where != "replayed":
                continue
            name = f"tool.{method}" if kind == "tool" else method
            chosen = [step for step in steps if step["call"] == name]
            if kind == "client":
                chosen = [step for step in chosen if not mine & step.keys()]
            elif mine:
                chosen = [step for step in chosen if mine & step.keys()]
            assert chosen, f"no scenario calls {kind}.{method}"


def _written(scenario: Json, found: Json) -> str:
    """A scenario as it stands in the file, with what was answered."""
    unordered = bool(scenario.get("unordered"))
    answers = [comparable(exchange, unordered) for exchange in found["exchanges"]]
    head = {name: each for name, each in scenario.items() if name not in ("steps", "failures", "exchanges")}
    head["failures"] = found["failures"]
    lists = {"steps": scenario["steps"], "exchanges": answers}
    shown = [f'   "{name}": [\n     ' + ",\n     ".join(map(_line, each)) + "]" for name, each in lists.items()]
    return ",\n".join([f"  {_line(head)[:-1]}", *shown]) + "}"


def _line(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


def main() -> None:
    """Writes the answers of a server into the scenarios."""
    with tempfile.TemporaryDirectory() as folder:
        called = asyncio.run(_served(Path(folder) / "agents.db"))
    found = {each["name"]: each for each in called["replays"]}
    written = ",\n".join(_written(scenario, found[scenario["name"]]) for scenario in SCENARIOS)
    (FOLDER / "scenarios.json").write_text(f"[\n{written}\n]\n")


if __name__ == "__main__":
    main()

"""`perdure api` and `perdure replay`, and the client's methods behind them, against a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from perdure.cli import main
from perdure.client import Client
from tests.support.dev_server import DevServer

APP = """
from perdure import App, Context, NonRetriableError

app = App("shop")

@app.function("greet", trigger="shop/greet", retries=0)
async def greet(ctx: Context) -> str:
    if not ctx.event.data.get("name"):
        raise NonRetriableError("who?")
    return "Hello " + ctx.event.data["name"]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[DevServer, None, None]:
    folder: Path = tmp_path_factory.mktemp("api")
    (folder / "api_app.py").write_text(APP)
    with DevServer(folder, "api_app.py:app", "--db", ":memory:", "--no-reload") as started:
        yield started
        assert started.stop() == 0


def run(server: DevServer, *arguments: str, input: str | None = None) -> Result:
    return CliRunner().invoke(main, [*arguments, "--url", server.url], input=input)


def answer(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


async def _invoke(server: DevServer, count: int, data: dict[str, str]) -> list[str]:
    """Runs of the function that have ended."""
    async with Client(server.url) as client:
        run_ids = [await client.invoke("greet", data) for _ in range(count)]
        while not all([(await client.get_run(run_id)).ended for run_id in run_ids]):
            await asyncio.sleep(0.02)
        return run_ids


def test_operations_as_commands(server: DevServer) -> None:
    here = ("--app-id", "shop", "--function-id", "greet")
    invoked = answer(run(server, "api", "invoke-function", *here, "--data", '{"name": "Ada"}'))
    run_id = invoked["data"]["runId"]
    shown = answer(run(server, "api", "get-function-run", "--run-id", run_id, "--include-output"))
    assert shown["data"]["id"] == run_id
    listed = answer(run(server, "api", "list-runs", "--status", "completed", "--status", "RUNNING", "--limit", "100"))
    assert run_id in [each["id"] for each in listed["data"]]
    again = answer(run(server, "api", "invoke-function", *here, "--data", "-", "--idempotency-key", "k", input="{}"))
    assert again["data"]["runId"] != run_id
    scored = run(server, "api", "create-scores", "--run-id", run_id, "--body", '[{"name": "kind", "value": 1}]')
    assert answer(scored)["data"] == [{"name": "kind", "value": 1}]
    assert answer(run(server, "api", "health"))["data"] == {"status": "ok"}


def test_operations_used_wrongly(server: DevServer) -> None:
    missing = run(server, "api", "get-function-run")
    assert missing.exit_code == 2 and "--run-id" in missing.output
    refused = run(server, "api", "get-function-run", "--run-id", "zzz")
    assert refused.exit_code == 1 and "Run ID must be a valid ULID" in refused.output
    malformed = run(server, "api", "send-event", "--name", "x", "--data", "{")
    assert malformed.exit_code == 2 and "not valid JSON" in malformed.output
    unknown = CliRunner().invoke(main, ["api", "nope"])
    assert unknown.exit_code == 2 and "No such command" in unknown.output


def test_a_replay(server: DevServer) -> None:
    failed = asyncio.run(_invoke(server, 2, {}))
    replayed = run(server, "replay", "greet", "--from", "2026-01-01T00:00:00Z", "--id", "monday")
    assert replayed.exit_code == 0, replayed.output
    count = int(replayed.stdout.split()[0])
    assert count >= len(failed) and replayed.stdout == f"{count} runs of greet started\n"
    assert "--id monday" in replayed.stderr
    again = run(server, "replay", "greet", "--from", "2026-01-01T00:00:00Z", "--id", "monday")
    assert again.stdout == replayed.stdout, "the same replay does nothing twice"
    runs = answer(run(server, "api", "list-runs", "--limit", "100"))["data"]
    other = run(server, "replay", "greet", "--status", "cancelled", "--id", "monday")
    assert other.exit_code == 1 and "another choice of runs" in other.output
    assert len(answer(run(server, "api", "list-runs", "--limit", "100"))["data"]) == len(runs)


async def test_the_client(server: DevServer) -> None:
    await _invoke(server, 1, {"name": "Ada"})
    async with Client(server.url) as client:
        replay = await client.replay("greet", status=["COMPLETED"], queued_from="2026-01-01T00:00:00Z")
        assert replay.run_count >= 1 and replay.skipped_count == 0
        cancelled = await client.cancel_many("greet")
        (newest, *_) = await client.cancellations()
        assert (newest["function_id"], newest["cancelled"]) == ("shop-greet", cancelled)
        assert await client.call("DELETE", f"/v1/cancellations/{newest['id']}") is None
        listed = await client.call("GET", "/v2/runs", query={"status": ["COMPLETED", "FAILED"], "includeOutput": True})
        assert {each["status"] for each in listed["data"]} <= {"COMPLETED", "FAILED"}

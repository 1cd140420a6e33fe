"""The commands and the client against a real server."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from perdure import Event
from perdure.cli import main
from perdure.client import ApiError, Client
from tests.support.dev_server import DevServer

APP = """
from perdure import App, Context, NonRetriableError, on, step

app = App("shop")
tries = []

def sometimes() -> str:
    tries.append(1)
    if len(tries) == 1:
        raise ValueError("not yet")
    return "at last"

@app.function("fulfil", trigger=on("shop/paid", if_="event.data.order > 0"), concurrency=5)
async def fulfil(ctx: Context) -> dict[str, object]:
    return {"order": ctx.event.data["order"], "try": await step.run("try", sometimes)}

@app.function("wait", trigger="shop/wait")
async def wait(ctx: Context) -> None:
    await step.wait_for_event("approval", event="shop/approved", timeout="1d")

@app.function("boom", trigger="shop/boom")
async def boom(ctx: Context) -> None:
    await step.run("check", check)

def check() -> None:
    raise NonRetriableError("no such order")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[DevServer, None, None]:
    folder: Path = tmp_path_factory.mktemp("commands")
    (folder / "commands_app.py").write_text(APP)
    with DevServer(
        folder, "commands_app.py:app", "--db", ":memory:", "--no-reload", "--retry-interval", "0.05"
    ) as started:
        yield started
        assert started.stop() == 0


def run(server: DevServer, *arguments: str, input: str | None = None) -> Result:
    return CliRunner().invoke(main, [*arguments, "--url", server.url], input=input)


def start(server: DevServer, name: str, data: str = "{}") -> str:
    result = run(server, "send", name, data, "--json")
    assert result.exit_code == 0, result.output
    run_id: str = json.loads(result.output)["runs"][0]["id"]
    return run_id


def test_the_banner_names_what_is_served(server: DevServer) -> None:
    server.wait_for("database   :memory:")
    server.wait_for("shop-fulfil  shop/paid if event.data.order > 0")


def test_an_event_and_the_run_it_starts(server: DevServer) -> None:
    sent = run(server, "send", "shop/paid", "-", "--id", "order-7", input='{"order": 7}')
    lines = sent.output.splitlines()
    assert sent.exit_code == 0 and lines[0].startswith("event 01") and lines[1].endswith("  shop-fulfil")
    followed = run(server, "run", lines[1].split()[1], "--follow")
    assert followed.exit_code == 0, followed.output
    timeline = followed.stdout
    assert "shop-fulfil  COMPLETED in " in timeline
    assert 'event shop/paid  {"order":7}' in timeline
    rows = [line.split() for line in timeline.splitlines() if "try" in line or "Attempt" in line]
    assert rows[0][:3] == ["try", "run", "COMPLETED"]
    assert rows[1][:3] == ["Attempt", "0", "FAILED"] and "ValueError: not yet" in timeline
    assert rows[2][:3] == ["Attempt", "1", "COMPLETED"]
    assert 'result {"order":7,"try":"at last"}' in timeline
    again = run(server, "send", "shop/paid", '{"order": 7}', "--id", "order-7")
    assert "no run started now" in again.output


def test_a_failed_run_shows_its_error_and_fails_the_follower(server: DevServer) -> None:
    run_id = start(server, "shop/boom")
    result = run(server, "run", run_id, "--wait")
    assert result.exit_code == 1
    assert "FAILED" in result.stdout and "NonRetriableError: no such order" in result.stdout
    assert 'File "' in result.stdout
    as_json = json.loads(run(server, "run", run_id, "--json").output)
    assert as_json["run"]["status"] == "FAILED" and as_json["trace"]["name"] == "Run"


def test_lists(server: DevServer) -> None:
    run_id = start(server, "shop/wait")
    listed = run(server, "runs", "--status", "running", "--function", "wait", "--limit", "200").output.splitlines()
    assert listed[0].split() == ["RUN", "FUNCTION", "STATUS", "QUEUED", "TOOK"]
    assert listed[1].split()[:3] == [run_id, "shop-wait", "RUNNING"]
    assert run(server, "runs", "--function", "nope").output == "no runs\n"
    assert "shop/wait" in run(server, "events", "--name", "shop/wait").output
    assert run(server, "events", "--name", "nope").output == "no events\n"
    functions = run(server, "functions").output.splitlines()
    assert functions[0].split() == ["FUNCTION", "STATE", "TRIGGERS", "RETRIES", "FLOW", "CONTROL"]
    assert [line.split()[0] for line in functions[1:]] == ["shop-boom", "shop-fulfil", "shop-wait"]
    assert "concurrency" in functions[2]
    shown = run(server, "run", run_id).output
    assert "approval  wait for event  WAITING" in shown and "--follow waits for it" in shown


def test_cancelling_one_and_many(server: DevServer) -> None:
    first = start(server, "shop/wait", '{"k": 1}')
    assert run(server, "cancel", first).output == f"run {first} is cancelled\n"
    start(server, "shop/wait", '{"k": 2}')
    bulk = run(server, "cancel", "--function", "wait", "--if", "event.data.k == 2")
    assert bulk.stdout == "1 run of wait cancelled\n"
    shown = run(server, "run", first)
    assert "CANCELLED" in shown.output
    refused = run(server, "cancel", "--function", "nope")
    assert refused.exit_code == 1 and "Function not found: nope (HTTP 404)" in refused.output
    unknown = run(server, "cancel", "01M811P18277Y0AMMWSQ8QVTTA")
    assert unknown.exit_code == 1 and "Unable to load function run" in unknown.output


def test_a_refused_event(server: DevServer) -> None:
    result = run(server, "send", "inngest/x")
    assert result.exit_code == 1
    assert result.output == "Error: event name is reserved for internal use: inngest/x (HTTP 400)\n"


def test_doctor(server: DevServer) -> None:
    result = run(server, "doctor")
    assert result.exit_code == 0, result.output
    assert f"at {server.url}" in result.output and "no runs without a next wake-up" in result.output
    findings = json.loads(run(server, "doctor", "--json").output)
    assert {finding["level"] for finding in findings} <= {"ok", "note"}


async def test_the_client(server: DevServer) -> None:
    async with Client(server.url, event_key="a key & more", signing_key="signkey-test-00ff") as client:
        assert await client.health()
        ids = await client.send([Event("c/one", {"n": 1}), {"name": "c/two", "id": "mine"}])
        assert len(ids) == 2
        listed = await client.events(limit=1, name="c/two")
        assert listed[0]["id"] == "mine" and listed[0]["internal_id"] == ids[1]
        assert await client.send([]) == []
        (waiting,) = await client.runs_of_event((await client.send({"name": "shop/wait"}))[0])
        run_info = await client.get_run(waiting)
        assert run_info.function_id == "shop-wait" and not run_info.ended
        assert (await client.get_trace(waiting)).name == "Run"
        page = await client.list_runs(limit=1)
        assert page.runs[0].id == waiting and page.cursor == waiting
        assert await client.cancel(waiting) == "Cancelled"
        assert (await client.get_run(waiting)).status == "CANCELLED"
        with pytest.raises(ApiError, match=r"events\[1\]: event name is empty") as caught:
            await client.send([{"name": "c/one"}, {"name": ""}])
        assert caught.value.status == 400
        with pytest.raises(ApiError, match="Run ID must be a valid ULID"):
            await client.get_run("no?such")
    with pytest.raises(RuntimeError, match="the client is not open"):
        await client.health()


def test_a_client_checks_its_arguments() -> None:
    with pytest.raises(ValueError, match="base_url must begin with"):
        Client("localhost:8288")
    with pytest.raises(ValueError, match="event_key must be"):
        Client(event_key="a/b")
    with pytest.raises(ValueError, match="signing_key is not valid: must be hex"):
        Client(signing_key="secret")

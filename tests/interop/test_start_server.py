"""`perdure start` as operators and callers meet it: a process with keys, and what one without them is told."""

from __future__ import annotations

import json
import signal
from asyncio import to_thread
from collections.abc import Generator
from pathlib import Path

import httpx2
import inngest
import pytest
from click.testing import CliRunner, Result

from perdure.cli import main
from perdure.cli.credentials import server_keys
from perdure.client import ApiError, Client
from tests.support.dev_server import DevServer

APP = """
import logging
from perdure import App, Context, step

app = App("shop")

@app.function("greet", trigger="t/greet")
async def greet(ctx: Context) -> str:
    return await step.run("say", lambda: "hello")

@app.function("grumble", trigger="t/grumble")
async def grumble(ctx: Context) -> None:
    try:
        raise ValueError("a bad day")
    except ValueError:
        logging.getLogger("shop").exception("grumbling about %s", "Zoë")
"""

VIEWER = "0123456789abcdefVIEWER"
EVENT_KEY, OTHER_EVENT_KEY = "orders-4f9c2b", "billing-77d1"
SIGNING_KEY, OLD_SIGNING_KEY = "signkey-prod-" + "0123456789abcdef" * 4, "00ff00ff"
KEYS = {
    "PERDURE_EVENT_KEYS": f"{EVENT_KEY}, {OTHER_EVENT_KEY}",
    "PERDURE_SIGNING_KEY": SIGNING_KEY,
    "PERDURE_SIGNING_KEY_FALLBACK": OLD_SIGNING_KEY,
    "PERDURE_API_KEYS": f"viewer:{VIEWER},operator:{VIEWER}-not",
}
NO_KEYS = {
    prefix + name: None
    for prefix in ("PERDURE_", "INNGEST_")
    for name in ("EVENT_KEY", "EVENT_KEYS", "SIGNING_KEY", "SIGNING_KEY_FALLBACK", "API_KEY", "API_KEYS", "ENV")
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[DevServer, None, None]:
    folder: Path = tmp_path_factory.mktemp("start")
    (folder / "started_app.py").write_text(APP)
    with DevServer(
        folder, "started_app:app", "--db", "shop.db", "--host", "0.0.0.0", command="start", environment=KEYS
    ) as started:
        started.url = started.url.replace("0.0.0.0", "127.0.0.1")
        yield started
        assert started.stop() == 0
        started.wait_for("stopped; nothing that was accepted is lost")
        printed = "".join(started.printed)
        assert "2 event keys, 2 signing keys, 2 API keys" in printed and "reload" not in printed
        assert not any(
            key in printed for key in (EVENT_KEY, OTHER_EVENT_KEY, SIGNING_KEY[13:], OLD_SIGNING_KEY, VIEWER)
        )


def run(*arguments: str, keys: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, arguments, env={**NO_KEYS, **(keys or {})})


def test_commands_take_keys_from_the_environment(server: DevServer) -> None:
    callers = (
        KEYS,
        {"INNGEST_EVENT_KEY": OTHER_EVENT_KEY, "INNGEST_SIGNING_KEY": SIGNING_KEY[13:]},
        {"PERDURE_EVENT_KEY": EVENT_KEY, "PERDURE_SIGNING_KEY": OLD_SIGNING_KEY, "INNGEST_SIGNING_KEY": "aa"},
    )
    for keys in callers:
        sent = run("send", "t/greet", "--json", "--url", server.url, keys=keys)
        assert sent.exit_code == 0, sent.output
        (started,) = json.loads(sent.output)["runs"]
        followed = run("run", started["id"], "--follow", "--url", server.url, keys=keys)
        assert followed.exit_code == 0 and 'result "hello"' in followed.output


def test_a_viewers_key_shows_and_does_not_act(server: DevServer) -> None:
    keys = {"PERDURE_EVENT_KEY": EVENT_KEY, "PERDURE_API_KEY": VIEWER}
    assert run("functions", "--url", server.url, keys=keys).exit_code == 0
    refused = run("pause", "shop-greet", "--url", server.url, keys=keys)
    assert refused.exit_code == 1
    assert "this asks for the role operator; the key has the role viewer" in refused.output


def test_made_keys_are_taken(server: DevServer) -> None:
    made = run("keys", "--role", "viewer", "--role", "admin")
    environment = dict(line.split("=", 1) for line in made.output.splitlines())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        assert str(server_keys((), None, None, environment=True)) == "1 event key, 1 signing key, 2 API keys"


@pytest.mark.parametrize(
    "arguments", [("runs",), ("functions",), ("doctor",), ("send", "x"), ("send", "x", "--key", "no")]
)
def test_commands_without_keys_get_one_clear_line(server: DevServer, arguments: tuple[str, ...]) -> None:
    for keys in ({}, {"PERDURE_EVENT_KEY": "no", "PERDURE_SIGNING_KEY": "abcd"}):
        result = run(*arguments, "--url", server.url, keys=keys)
        assert result.exit_code == 1 and len(result.output.splitlines()) == 1
        assert "key that was sent, or none was sent (HTTP 401): set PERDURE_EVENT_KEY and" in result.output


def test_a_command_says_which_variable_holds_no_key(server: DevServer) -> None:
    result = run("runs", "--url", server.url, keys={"PERDURE_SIGNING_KEY": "hunter2"})
    assert result.exit_code == 2 and "PERDURE_SIGNING_KEY is not valid: must be hex" in result.output
    assert "hunter2" not in result.output


async def test_the_client_with_and_without_keys(server: DevServer) -> None:
    async with Client(server.url, event_key=EVENT_KEY, signing_key=SIGNING_KEY) as client:
        (event_id,) = await client.send({"name": "t/greet"})
        assert len(await client.runs_of_event(event_id)) == 1
    async with Client(server.url) as client:
        assert await client.health()
        with pytest.raises(ApiError, match="does not know the event key") as caught:
            await client.send({"name": "t/greet"})
        assert caught.value.status == 401
        with pytest.raises(ApiError, match="does not know the signing key"):
            await client.list_runs()


async def test_it_is_a_server_for_production_under_any_name(server: DevServer) -> None:
    async with httpx2.AsyncClient(base_url=server.url) as http:
        for path, status in (("/health", 200), ("/v1/events", 401), ("/metrics", 401)):
            response = await http.get(path, headers={"host": "perdure.example"})
            assert response.status_code == status
            assert response.headers["x-inngest-server-kind"] == "cloud"


async def test_the_official_client_sends_events_in_production(server: DevServer) -> None:
    for event_key, known in ((EVENT_KEY, True), ("no-such-key", False)):
        sender = inngest.Inngest(
            app_id="sender",
            event_api_base_url=server.url,
            api_base_url=server.url,
            event_key=event_key,
            signing_key=SIGNING_KEY,
            is_production=True,
        )
        if known:
            (event_id,) = await sender.send(inngest.Event(name="o/one", data={"n": 1}))
            async with Client(server.url, signing_key=SIGNING_KEY) as client:
                assert event_id in [event["internal_id"] for event in await client.events(name="o/one")]
        else:
            with pytest.raises(Exception, match="Event key not found"):
                await sender.send(inngest.Event(name="o/one"))
        # It has no way to close its connections.
        await sender._http_client._http_client.aclose()
        sender._http_client._http_client_sync.close()


async def test_logs_as_json_lines(tmp_path: Path) -> None:
    (tmp_path / "logging_app.py").write_text(APP)
    made = dict(line.split("=", 1) for line in run("keys").output.splitlines())
    arguments = ("logging_app:app", "--db", ":memory:", "--log-format", "json")
    server = DevServer(tmp_path, *arguments, command="start", environment=made)
    with server:
        url = json.loads(server.printed[0])["message"].rpartition(" ")[2]
        async with Client(url, event_key=made["PERDURE_EVENT_KEY"], signing_key=made["PERDURE_SIGNING_KEY"]) as client:
            await client.send({"name": "t/grumble"})
        grumble = json.loads(await to_thread(server.wait_for, "grumbling"))
        assert server.stop(signal.SIGINT) == 0
    assert grumble.keys() == {"time", "level", "logger", "message", "error"}
    assert (grumble["level"], grumble["logger"], grumble["message"]) == ("error", "shop", "grumbling about Zoë")
    assert grumble["error"].endswith("ValueError: a bad day") and grumble["time"].endswith("Z")
    lines = [json.loads(line) for line in server.printed]
    assert lines[-1]["message"] == "stopped; what was in memory is gone"


def test_a_second_signal_ends_what_drains(tmp_path: Path) -> None:
    with DevServer(tmp_path, "--db", ":memory:", "--drain", "60", command="start", environment=KEYS) as server:
        server.send_signal(signal.SIGTERM)
        server.wait_for("signal received, stopping")
        assert httpx2.get(f"{server.url}/health/ready").status_code == 503
        assert httpx2.get(f"{server.url}/health/live").status_code == 200
        assert server.stop() == 128 + signal.SIGTERM


def test_keys_are_new_each_time() -> None:
    first, second = run("keys").output.splitlines(), run("keys").output.splitlines()
    assert [line.partition("=")[0] for line in first] == ["PERDURE_EVENT_KEY", "PERDURE_SIGNING_KEY"]
    assert first[1].startswith("PERDURE_SIGNING_KEY=signkey-prod-") and not set(first) & set(second)


@pytest.mark.parametrize(
    ("arguments", "keys", "message"),
    [
        ((), {}, "needs keys: give --event-key and --signing-key, or set PERDURE_EVENT_KEY"),
        (("--event-key", "a"), {}, "got no signing key; `perdure keys` makes a pair"),
        (("--api-key", "boss:0123456789abcdef"), {}, "--api-key is not valid: must begin with a role"),
        (("--api-key", "viewer:0123456789abcdef"), {}, "needs an event key and a signing key"),
        ((), {"PERDURE_SIGNING_KEY": "00ff"}, "got no event key; `perdure keys` makes a pair"),
        ((), {"PERDURE_SIGNING_KEY_FALLBACK": "00ff", "PERDURE_EVENT_KEY": "a"}, "got no signing key;"),
        (("--event-key", "a", "--signing-key", "xyz"), {}, "--signing-key is not valid: must be hex"),
        (("--event-key", "a"), {"INNGEST_SIGNING_KEY": "xyz"}, "INNGEST_SIGNING_KEY is not valid: must be hex"),
        (("--event-key", "x/y/z", "--signing-key", "00"), {}, "--event-key is not valid: must be letters"),
        (("--event-key", "a", "--signing-key", "00", "--db", "mysql://x"), {}, "is neither a file nor"),
    ],
)
def test_it_does_not_start_without_good_keys(arguments: tuple[str, ...], keys: dict[str, str], message: str) -> None:
    result = run("start", "no_such_app", *arguments, "--port", "0", keys=keys)
    assert result.exit_code == 2 and message in result.output
    assert "xyz" not in result.output and "x/y/z" not in result.output


async def test_dev_asks_for_the_keys_it_was_given_and_may_then_listen_anywhere(tmp_path: Path) -> None:
    keys = ("--event-key", EVENT_KEY, "--signing-key", SIGNING_KEY)
    with DevServer(tmp_path, "--db", ":memory:", "--host", "0.0.0.0", *keys) as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        async with httpx2.AsyncClient(base_url=url, headers={"host": "shop.example"}) as http:
            response = await http.get("/v1/events")
            assert response.status_code == 401 and response.headers["x-inngest-server-kind"] == "dev"
        async with Client(url, event_key=EVENT_KEY, signing_key=SIGNING_KEY) as client:
            await client.send({"name": "t/x"})
            assert len(await client.events()) == 1


async def test_dev_without_keys_answers_to_local_names_only_whatever_the_environment_holds(tmp_path: Path) -> None:
    with DevServer(tmp_path, "--db", ":memory:", environment=KEYS) as server:
        async with httpx2.AsyncClient(base_url=server.url.replace("127.0.0.1", "localhost")) as http:
            assert (await http.get("/v1/events")).status_code == 200
            foreign = await http.get("/v1/events", headers={"host": "rebound.example:8288"})
            assert foreign.status_code == 403 and "--allow-insecure-host" in foreign.json()["error"]
    with DevServer(tmp_path, "--db", ":memory:", "--allow-insecure-host") as server:
        async with httpx2.AsyncClient(base_url=server.url, headers={"host": "rebound.example"}) as http:
            assert (await http.get("/v1/events")).status_code == 200


def test_environments_by_commands(server: DevServer) -> None:
    def env(*arguments: str, keys: dict[str, str] = KEYS) -> Result:
        return run("env", *arguments, *(() if arguments[0] == "keys" else ("--url", server.url)), keys=keys)

    missing = run("runs", "--env", "carts", "--url", server.url, keys=KEYS)
    assert missing.exit_code == 1 and "there is no environment carts" in missing.output
    assert env("create", "carts").exit_code == 0
    own = dict(line.split("=", 1) for line in env("keys", "carts").output.splitlines())
    assert own["INNGEST_ENV"] == "carts"
    # What is printed is all that a caller needs.
    sent = run("send", "t/branch", "--json", "--url", server.url, keys=own)
    assert sent.exit_code == 0, sent.output
    for keys in (own, {**KEYS, "PERDURE_ENV": "carts"}):
        assert "t/branch" in run("events", "--url", server.url, keys=keys).output
    assert "t/branch" not in run("events", "--url", server.url, keys=KEYS).output
    assert run("events", "--url", server.url, keys={**own, "INNGEST_ENV": "other"}).exit_code == 1
    assert env("archive", "carts").exit_code == 0
    assert "archived" in env("list").output
    refused = run("events", "--url", server.url, keys=own)
    assert refused.exit_code == 1 and "carts is archived" in refused.output
    assert env("unarchive", "carts").exit_code == 0
    assert [each["name"] for each in json.loads(env("list", "--json").output)] == ["dev", "carts"]
    for name, said in (("main", "is the main environment"), ("two words", "without spaces")):
        wrong = env("create", name)
        assert wrong.exit_code == 2 and said in wrong.output
    assert env("archive", "nowhere").exit_code == 1
    assert "set PERDURE_SIGNING_KEY" in env("keys", "carts", keys={}).output

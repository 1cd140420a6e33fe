"""Branch environments over HTTP: what is isolated, how they come and go, and what is said where there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from perdure.model.environments import MAIN_ID, environment_id
from perdure.model.json import Json
from perdure.model.keys import ApiKey, EventKey, Keys, SigningKey
from perdure.store.naming import database_of, make_database
from perdure.store.postgres import PostgresStore
from tests.support.branches import Branches, branched
from tests.support.postgres import PostgresServer

SIGNING = "0123456789abcdef" * 4
VIEWER = "viewer-0123456789"
KEYS = Keys([EventKey.parse("evtkey")], [SigningKey.parse(SIGNING)], [ApiKey.parse(f"viewer@b:{VIEWER}")])
MISSING = "there is no environment"


@pytest.fixture
async def dev() -> AsyncGenerator[Branches, None]:
    async with branched() as found:
        yield found


@pytest.fixture
async def cloud() -> AsyncGenerator[Branches, None]:
    async with branched(keys=KEYS) as found:
        yield found


def function(app: str, limit: int = 1) -> Json:
    return {
        "url": f"http://127.0.0.1:1/{app}",
        "appName": app,
        "sdk": "js:v4",
        "v": "0.1",
        "framework": "express",
        "deployType": "ping",
        "functions": [
            {
                "id": f"{app}-f",
                "name": "f",
                "triggers": [{"event": "t/remote"}],
                "rateLimit": {"limit": limit, "period": "1h"},
                "steps": {
                    "step": {
                        "id": "step",
                        "name": "step",
                        "runtime": {"type": "http", "url": f"http://127.0.0.1:1/{app}?fnId={app}-f&stepId=step"},
                    }
                },
            }
        ],
    }


# Isolation.


async def test_events_runs_and_functions_of_environments_are_apart(dev: Branches) -> None:
    for env in ("", "a", "feature/b"):
        assert (await dev.send(env, f"t/{env or 'main'}")).status_code == 200
    await dev.send("", "t/plain")
    await dev.node.settle()
    assert {"t/main", "t/plain"} <= set(await dev.names("")) and "t/a" not in await dev.names("")
    assert (await dev.names("a"), await dev.names("feature/b")) == (["t/a"], ["t/feature/b"])
    # The apps of this process are the main environment's.
    assert len((await dev.ask("GET", "/v1/functions")).json()["data"]) > 3
    assert (await dev.ask("GET", "/v1/functions", "a")).json()["data"] == []
    (run,) = (await dev.ask("GET", "/v1/runs")).json()["data"]
    assert run["environment_id"] == MAIN_ID
    for env in ("a", "feature/b"):
        assert (await dev.ask("GET", "/v1/runs", env)).json()["data"] == []
        assert (await dev.ask("GET", f"/v1/runs/{run['run_id']}", env)).status_code == 404
        assert (await dev.ask("POST", f"/v1/runs/{run['run_id']}/cancel", env)).status_code == 404


async def test_an_id_that_one_environment_has_seen_is_new_to_another(dev: Branches) -> None:
    event: Json = {"name": "t/remote", "id": "same", "data": {}}
    for env in ("a", "b"):
        await dev.ask("POST", "/fn/register", env, function("web", 10))
        for _ in range(2):
            assert (await dev.ask("POST", "/e/key", env, event)).status_code == 200
    for env in ("a", "b"):
        assert len((await dev.ask("GET", "/v1/runs", env)).json()["data"]) == 1


async def test_limits_are_counted_in_each_environment(dev: Branches) -> None:
    for env in ("a", "b"):
        assert (await dev.ask("POST", "/fn/register", env, function("web"))).status_code == 200
        for _ in range(3):
            await dev.send(env, "t/remote")
        # One an hour: one in each.
        assert len((await dev.ask("GET", "/v1/runs", env)).json()["data"]) == 1
    (run,) = (await dev.ask("GET", "/v1/runs", "b")).json()["data"]
    assert run["environment_id"] == environment_id("b") != environment_id("a")
    assert "web-f" not in str((await dev.ask("GET", "/v1/functions")).json())


async def test_one_app_is_registered_differently_in_two_environments(dev: Branches) -> None:
    for env, limit in (("a", 2), ("b", 4)):
        await dev.ask("POST", "/fn/register", env, function("web", limit))
    for env, limit in (("a", 2), ("b", 4)):
        (app,) = (await dev.ask("GET", "/v2/apps/web/functions", env)).json()["data"]
        assert app["configuration"]["rateLimit"]["limit"] == limit
    await dev.ask("DELETE", "/fn/remove?url=web", "a")
    assert (await dev.ask("GET", "/v2/apps/web", "b")).status_code == 200


async def test_a_signal_reaches_nobody_in_another_environment(dev: Branches) -> None:
    await dev.send("a", "t/x")
    answer = await dev.ask("POST", "/v1/signals", "a", {"signal": "s", "data": 1})
    assert answer.status_code == 404


@pytest.mark.parametrize("name", ["production", "Production", "dev", "main", "master"])
async def test_some_names_mean_the_main_environment(dev: Branches, name: str) -> None:
    assert (await dev.send(name, "t/x")).status_code == 200
    assert await dev.names("") == ["t/x"]


async def test_tokens_lead_to_their_environment_without_its_name(dev: Branches) -> None:
    await dev.send("a", "t/x")
    topics: Json = [{"channel": "c", "name": "t"}]
    token = (await dev.ask("POST", "/v1/realtime/token", "a", topics)).json()["jwt"]
    # Who asks without an upgrade is told so once the token is taken, and only where it is known.
    for header in ("", "a", "b"):
        assert (await dev.ask("GET", f"/v1/realtime/connect?token={token}", header)).status_code == 426
    main = (await dev.ask("POST", "/v1/realtime/token", "", topics)).json()["jwt"]
    assert (await dev.ask("GET", f"/v1/realtime/connect?token={main}", "a")).status_code == 426
    for forged in (f"{token}x", "a.b.c", "x"):
        assert (await dev.ask("GET", f"/v1/realtime/connect?token={forged}")).status_code == 401
    await dev.ask("PATCH", "/v2/envs/a", body={"isArchived": True})
    assert (await dev.ask("GET", f"/v1/realtime/connect?token={token}")).status_code == 409


async def test_the_answer_of_an_endpoint_is_fetched_without_a_name(dev: Branches) -> None:
    run_id = "01M811P18277Y0AMMWSQ8QVTTA"
    request: Json = {"domain": "http://shop.test", "method": "GET", "path": "/f"}
    body: Json = {"run_id": run_id, "event": {"name": "inngest/http.request", "data": request}, "steps": []}
    begun = await dev.ask("POST", "/v1/checkpoint", "a", body)
    assert begun.status_code == 200, begun.text
    answer = {"status": 201, "headers": {"x-from": "a"}, "body": "done"}
    done: Json = {"run_id": run_id, "steps": [{"op": "RunComplete", "id": "0" * 40, "data": answer}]}
    assert (await dev.ask("POST", f"/v1/checkpoint/{run_id}/steps", "a", done)).status_code == 200
    path = f"/v1/checkpoint/{run_id}/output?token={begun.json()['data']['token']}"
    for env in ("", "a", "b"):
        fetched = await dev.ask("GET", path, env)
        assert (fetched.status_code, fetched.text) == (201, "done")
    assert (await dev.ask("POST", f"/v1/checkpoint/{run_id}/steps", "", done)).status_code == 404


# Keys.


async def test_keys_of_an_environment_are_good_in_it_alone(cloud: Branches) -> None:
    (event, *_), (signing, *_) = KEYS.own("a")
    (other, *_), (other_signing, *_) = KEYS.own("b")
    key = event.reveal()
    assert (await cloud.send("a", "t/a", key)).status_code == 200
    for env in ("", "b"):
        refused = await cloud.send(env, "t/a", key)
        assert (refused.status_code, refused.json()["error"]) == (401, "Event key not found")
    assert await cloud.names("a", signing.bearer) == ["t/a"]
    for env in ("", "b"):
        assert (await cloud.ask("GET", "/v1/events", env, bearer=signing.bearer)).status_code == 401
    assert (await cloud.send("a", "t/a", other.reveal())).status_code == 401
    assert (await cloud.ask("GET", "/v1/events", "a", bearer=other_signing.bearer)).status_code == 401
    # The event keys of the main environment send there alone.
    for env in ("a", "nowhere"):
        misled = await cloud.send(env, "t/a", "evtkey")
        assert misled.status_code == 401 and f"not found in environment {env}: it is one of the main" in misled.text
    assert (await cloud.send("main", "t/main", "evtkey")).status_code == 200
    assert await cloud.names("a", SIGNING) == ["t/a"]


async def test_whoever_has_no_key_learns_nothing(cloud: Branches) -> None:
    await cloud.ask("POST", "/v2/envs", body={"name": "a"}, bearer=SIGNING)
    told = [await cloud.ask("GET", "/v1/runs", env) for env in ("a", "b", "no such")]
    assert [answer.status_code for answer in told] == [401, 401, 400]
    assert told[0].text == told[1].text
    assert all(answer.headers["x-inngest-server-kind"] == "cloud" for answer in told)
    assert [row.name for row in await cloud.environments.rows()] == ["a"]
    for path in ("/session", "/v1/realtime/connect?token=x", "/perdure-stream.js"):
        open_to_all = [await cloud.ask("GET", path, env) for env in ("a", "b", "")]
        assert len({(answer.status_code, answer.text) for answer in open_to_all}) == 1


async def test_the_servers_admin_is_one_everywhere_and_makes_none_by_accident(cloud: Branches) -> None:
    for method, path in (("GET", "/v1/runs"), ("POST", "/v2/events"), ("POST", "/fn/register")):
        refused = await cloud.ask(method, path, "typo", {"name": "x"} if method == "POST" else None, SIGNING)
        assert refused.status_code == 404 and MISSING in refused.text
    assert await cloud.environments.rows() == []
    made = await cloud.ask("POST", "/v2/envs", body={"name": "b"}, bearer=SIGNING)
    assert made.status_code == 200
    assert (await cloud.ask("POST", "/v2/events", "b", {"name": "x", "data": {}}, SIGNING)).status_code == 200
    assert await cloud.names("b", SIGNING) == ["x"]
    # A key with a role in one environment has none in others, nor does it manage them.
    assert await cloud.names("b", VIEWER) == ["x"]
    assert (await cloud.ask("POST", "/v2/events", "b", {"name": "x"}, VIEWER)).status_code == 403
    assert (await cloud.ask("GET", "/v2/envs", bearer=VIEWER)).status_code == 401


async def test_its_own_keys_make_an_environment_where_something_begins(cloud: Branches) -> None:
    (_, *_), (signing, *_) = KEYS.own("c")
    assert (await cloud.ask("GET", "/v1/runs", "c", bearer=signing.bearer)).status_code == 404
    registered = await cloud.ask("POST", "/fn/register", "c", function("web"), signing.bearer)
    assert registered.status_code == 200
    assert (await cloud.ask("GET", "/v1/runs", "c", bearer=signing.bearer)).status_code == 200


async def test_a_session_is_good_in_every_environment_that_its_key_opens() -> None:
    async with branched(keys=KEYS, address="http://perdure.example") as cloud:
        for name in ("a", "b"):
            await cloud.ask("POST", "/v2/envs", body={"name": name}, bearer=SIGNING)
        assert (await cloud.ask("POST", "/session", body={"key": SIGNING})).status_code == 200
        for env in ("", "a", "b"):
            assert (await cloud.ask("GET", "/session", env)).json()["role"] == "admin"
            assert (await cloud.ask("GET", "/v1/runs", env)).status_code == 200
        assert (await cloud.ask("POST", "/session", body={"key": VIEWER})).status_code == 401
        assert (await cloud.ask("POST", "/session", "b", {"key": VIEWER})).status_code == 200
        roles = [(await cloud.ask("GET", "/session", env)).json()["role"] for env in ("", "a", "b")]
        assert roles == [None, None, "viewer"]


# Coming and going.


async def test_environments_are_made_listed_archived_and_woken(dev: Branches) -> None:
    made = (await dev.ask("POST", "/v2/envs", body={"name": "feature/a"})).json()["data"]
    assert made == {
        "id": environment_id("feature/a"),
        "name": "feature/a",
        "type": "BRANCH",
        "isArchived": False,
        "createdAt": made["createdAt"],
    }
    again = await dev.ask("POST", "/api/v2/envs", body={"name": "feature/a"})
    assert again.json()["data"] == made
    await dev.send("feature/a", "t/kept")
    archived = await dev.ask("PATCH", f"/v2/envs/{made['id']}", body={"isArchived": True})
    assert archived.json()["data"] == {**made, "isArchived": True}
    for method, path in (("POST", "/e/key"), ("GET", "/v1/events"), ("POST", "/fn/register")):
        refused = await dev.ask(method, path, "feature/a", {"name": "x"} if method == "POST" else None)
        assert refused.status_code == 409 and "is archived" in refused.text
    listed = (await dev.ask("GET", "/v2/envs")).json()["data"]
    assert [(each["name"], each["isArchived"]) for each in listed] == [("dev", False), ("feature/a", True)]
    assert (await dev.ask("PATCH", f"/v2/envs/{made['id']}", body={"isArchived": False})).status_code == 200


async def test_there_are_no_more_than_there_may_be() -> None:
    async with branched(most=2) as dev:
        for env in ("a", "b"):
            assert (await dev.send(env, "t/x")).status_code == 200
        refused = await dev.send("c", "t/x")
        assert refused.status_code == 409 and "archive one" in refused.json()["error"]
        by_api = await dev.ask("POST", "/v2/envs", body={"name": "c"})
        assert (by_api.status_code, by_api.json()["errors"][0]["code"]) == (409, "too_many_environments")
        await dev.ask("PATCH", "/v2/envs/a", body={"isArchived": True})
        assert (await dev.send("c", "t/x")).status_code == 200
        full = await dev.ask("PATCH", "/v2/envs/a", body={"isArchived": False})
        assert full.status_code == 409


async def test_pages_of_elsewhere_make_no_environments(dev: Branches) -> None:
    for origin, status in (("https://evil.example", 404), ("null", 404), ("http://localhost:3000", 200)):
        headers = {"origin": origin, "x-inngest-env": "of-a-page"}
        sent = await dev.http.post("/e/key", json={"name": "t/x"}, headers=headers)
        assert sent.status_code == status, origin
    # What is there they may send to, as to the main one.
    headers = {"origin": "https://shop.example", "x-inngest-env": "of-a-page"}
    assert (await dev.http.post("/e/key", json={"name": "t/x"}, headers=headers)).status_code == 200


async def test_where_nothing_begins_an_environment_is_not_made(dev: Branches) -> None:
    for method, path in (("GET", "/v1/runs"), ("POST", "/v1/signals"), ("DELETE", "/v0/runs/x"), ("POST", "/v0/gql")):
        refused = await dev.ask(method, path, "nowhere")
        assert refused.status_code == 404 and MISSING in refused.text
    assert await dev.environments.rows() == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/e/key", {"ids": [""], "status": 400}),
        ("/v2/runs", {"errors": [{"code": "api_error"}]}),
        ("/v1/runs", {"data": None, "status": 400}),
    ],
)
@pytest.mark.parametrize("name", ["two words", "x" * 129, "caf\u00e9"])
async def test_a_name_that_is_none_is_told(dev: Branches, path: str, expected: dict[str, Json], name: str) -> None:
    method = "POST" if path == "/e/key" else "GET"
    response = await dev.http.request(method, path, headers={b"x-inngest-env": name.encode("latin-1")})
    assert response.status_code == 400 and "1 to 128 letters" in response.text
    assert expected.keys() <= response.json().keys()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/v2/envs", {}, 400, "missing_field"),
        ("POST", "/v2/envs", {"name": 1}, 400, "missing_field"),
        ("POST", "/v2/envs", {"name": "a b"}, 400, "invalid_field_format"),
        ("POST", "/v2/envs", {"name": "main"}, 400, "invalid_field_format"),
        ("PATCH", "/v2/envs/x", {"isArchived": True}, 404, "not_found"),
        ("PATCH", f"/v2/envs/{MAIN_ID}", {"isArchived": True}, 404, "not_found"),
        ("PATCH", "/v2/envs/x", {}, 400, "missing_field"),
        ("PATCH", "/v2/envs/x", {"isArchived": "yes"}, 400, "missing_field"),
    ],
)
async def test_what_cannot_be_done_to_environments(
    dev: Branches, method: str, path: str, body: Json, status: int, code: str
) -> None:
    answer = await dev.ask(method, path, body=body)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (status, code)


async def test_what_is_about_the_server_is_the_main_environments(dev: Branches) -> None:
    for path in ("/health", "/health/ready", "/v2/envs"):
        assert (await dev.ask("GET", path, "nowhere")).status_code == 200


# Restart, and PostgreSQL.


async def _lives_through_a_restart(db: str | Path) -> None:
    async with branched(db) as first:
        await first.send("a", "t/kept")
        await first.ask("POST", "/fn/register", "a", function("web"))
        await first.send("b", "t/resting")
        await first.ask("PATCH", "/v2/envs/b", body={"isArchived": True})
    async with branched(db) as second:
        assert len(second.environments.nodes) == 1
        assert await second.names("a") == ["t/kept"]
        assert (await second.ask("GET", "/v2/apps/web", "a")).status_code == 200
        assert (await second.send("b", "t/x")).status_code == 409
        await second.ask("PATCH", "/v2/envs/b", body={"isArchived": False})
        assert await second.names("b") == ["t/resting"]
        assert await second.names("") == []


@pytest.mark.only_sqlite("it looks for the files")
async def test_environments_live_through_a_restart(tmp_path: Path) -> None:
    await _lives_through_a_restart(tmp_path / "shop.db")
    assert len(list((tmp_path / "shop.db.envs").glob("a-*.db"))) == 1


@pytest.fixture
async def server_url(postgres_server: PostgresServer, postgres_url: str) -> AsyncGenerator[str, None]:
    yield postgres_url
    for name in ("a", "b"):
        database = database_of(postgres_url, name).rpartition("/")[2]
        postgres_server.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")


async def test_on_postgres_environments_live_through_a_restart(server_url: str) -> None:
    await _lives_through_a_restart(server_url)


async def test_nodes_of_one_database_agree_on_its_environments(server_url: str) -> None:
    async with branched(server_url) as one, branched(server_url) as other:
        await one.send("a", "t/one")
        # The other finds it when it is asked for it, and by itself.
        assert await other.names("a") == ["t/one"]
        await other.ask("PATCH", "/v2/envs/a", body={"isArchived": True})
        assert (await one.ask("GET", "/v2/envs")).json()["data"][1]["isArchived"]
        await one.environments._look()
        assert (await one.send("a", "t/two")).status_code == 409
        assert one.environments.nodes == other.environments.nodes == []


async def test_two_nodes_make_a_database_at_once_and_it_is_there_once(server_url: str) -> None:
    db = database_of(server_url, "a")
    await asyncio.gather(*(make_database(server_url, db) for _ in range(4)))
    store = PostgresStore(db)
    await store.open()
    await store.close()

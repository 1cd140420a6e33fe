"""Requests that become runs, on npm's SDK: what callers get, what the app does, and how often.

What is expected is what the SDK and the server of its makers do together, but for what they do wrong: a function that
always throws ends, a failure is no success, and nothing waits for the tick of a clock.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from perdure.client import RunInfo
from perdure.model.json import Json
from tests.support.sdk_apps import Fleet, SdkApp, eventually, running

pytestmark = [pytest.mark.timeout(120)]


class Answer:
    """What a caller got."""

    def __init__(self, response: aiohttp.ClientResponse, body: bytes, ms: float) -> None:
        self.status, self.headers, self.body, self.ms = response.status, response.headers, body, ms

    @property
    def json(self) -> Json:
        return json.loads(self.body)

    @property
    def location(self) -> str:
        return self.headers["location"]


async def ask(
    app: SdkApp, path: str, *, method: str = "GET", data: str | bytes | None = None, **headers: str
) -> Answer:
    """A request to the app, or by a whole URL; where it leads is not followed."""
    loop, url = asyncio.get_running_loop(), path if "://" in path else app.url + path
    began = loop.time()
    async with app.fleet.http.request(method, url, data=data, headers=headers, allow_redirects=False) as response:
        return Answer(response, await response.read(), (loop.time() - began) * 1000)


async def led(app: SdkApp, path: str, *, method: str = "GET", data: str | bytes | None = None) -> Answer:
    """What a caller gets in the end who is led away, and follows."""
    first = await ask(app, path, method=method, data=data)
    assert first.status == 302, first.body
    assert first.body == b"" and first.headers["content-type"] == "text/plain;charset=UTF-8"
    split = urlsplit(first.location)
    assert first.location.startswith(f"{app.fleet.server.url}/v1/http/runs/") and split.path.endswith("/output")
    return await ask(app, first.location)


async def run_at(app: SdkApp, answer: Answer) -> RunInfo:
    """The run to whose answer a caller was led, once it has ended."""
    return await app.ended(urlsplit(answer.location).path.split("/")[-2])


@pytest.fixture
async def app(fleet: Fleet) -> SdkApp:
    return await fleet.app("endpoints")


# Answered at once.


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/none", 201, '{"plain":true}'),
        ("/value", 200, '{"a":1}'),
        ("/text", 200, '"All done"'),
        ("/nothing", 200, "null"),
        ("/two", 202, '{"a":{"n":1},"b":2}'),
        ("/date", 200, '{"t":"string","d":"1970-01-01T00:00:00.000Z"}'),
        ("/same", 200, "[1,2,3]"),
    ],
)
async def test_what_needs_no_wait_is_answered_at_once(app: SdkApp, path: str, status: int, body: str) -> None:
    key = app.key()
    answer = await ask(app, f"{path}?key={key}")
    assert (answer.status, answer.body.decode()) == (status, body)
    assert (await app.noted(key)).count("begin GET") == 1
    run = await latest(app, f"GET {path}")
    assert run.status == "COMPLETED"


async def latest(app: SdkApp, name: str) -> RunInfo:
    """The latest run of a method and path, once it has ended."""

    async def find() -> str | None:
        query = {"function_id": f"{app.url}-{name}", "limit": "1", "order": "DESC"}
        async with app.fleet.http.get(f"{app.fleet.server.url}/v1/runs", params=query) as found:
            runs = (await found.json())["data"]
        return runs[0]["run_id"] if runs else None

    return await app.ended(await eventually(find, f"run of {name}"), 10)


async def test_headers_and_bytes_of_the_answer_are_the_handler_s(app: SdkApp) -> None:
    assert (await ask(app, "/none")).headers["x-kept"] == "yes"
    binary = await ask(app, "/binary")
    assert (binary.body, binary.headers["set-cookie"]) == (b"\x00\xff\xfe\x0a", "a=b")
    assert binary.headers["content-type"] == "application/octet-stream"


async def test_steps_of_the_same_id_are_steps_of_their_own(app: SdkApp) -> None:
    key = app.key()
    await ask(app, f"/same?key={key}")
    run = await latest(app, "GET /same")
    spans = (await app.client.get_trace(run.id)).children
    assert [span.name for span in spans if span.name == "x"] == ["x"] * 3


async def test_an_event_is_sent_while_the_request_is_answered(app: SdkApp) -> None:
    answer = await ask(app, "/sends")
    assert answer.status == 200 and len(answer.json["ids"]) == 1


async def test_a_caller_may_name_a_run_without_effect(app: SdkApp) -> None:
    answer = await ask(app, "/two", **{"x-run-id": "01M81198VWM7D9852ZF7Y29THA"})
    assert answer.status == 202


async def test_who_pretends_to_be_the_server_is_told_nothing(app: SdkApp) -> None:
    pretended = {"x-run-id": "01M81198VWM7D9852ZF7Y29THA", "x-inngest-signature": ""}
    answer = await ask(app, "/two", **pretended)
    assert answer.status == 500 and b'"type":"internal"' in answer.body


# Led to where the answer will be.


async def test_a_sleep(app: SdkApp) -> None:
    key = app.key()
    first = await ask(app, f"/sleep?key={key}&z=a%20b&span=700ms")
    assert first.status == 302
    answer = await ask(app, first.location)
    # The SDK tells the text of a response only, as JSON.
    assert answer.status == 200 and answer.headers["content-type"] == "application/json"
    assert answer.json == f"hello world ?key={key}&z=a+b&span=700ms"
    # The real pair answers at the next tick of its clock, after two seconds.
    assert answer.ms < 1900
    assert (await app.noted(key)).count("before") == (await app.noted(key)).count("after") == 1
    for _ in range(2):
        again = await ask(app, first.location)
        assert (again.status, again.body) == (answer.status, answer.body) and again.ms < 1900


@pytest.mark.parametrize(
    ("path", "body"), [("/sleep-object", {"k": "v"}), ("/sleep-first", "OK text"), ("/sleep-null", None)]
)
async def test_what_comes_after_a_sleep(app: SdkApp, path: str, body: Json) -> None:
    answer = await led(app, path)
    assert answer.status == 200
    assert (answer.json if answer.body else None) == body


async def test_paths_that_name_things_lead_back_to_themselves(app: SdkApp) -> None:
    keys = app.key(), app.key()
    paths = [f"/users/123?key={keys[0]}", f"/users/456?key={keys[1]}"]
    answers = await asyncio.gather(*(led(app, path) for path in paths))
    assert [answer.status for answer in answers] == [200, 200]
    for key in keys:
        assert (await app.noted(key)).count("after") == 1


async def test_a_wait_for_an_event_wakes_the_run_it_is_for(app: SdkApp) -> None:
    keys = [app.key() for _ in range(3)]
    firsts = [await ask(app, f"/wait?key={key}") for key in keys]
    for key in keys[1::-1]:
        await app.fleet.client.send({"name": "endpoints/go", "data": {"id": key, "who": "me"}})
        answer = await ask(app, firsts[keys.index(key)].location)
        assert json.loads(answer.body) == {"got": {"id": key, "who": "me"}}
    assert "woken" not in await app.noted(keys[2])
    # Who comes after the event finds the answer there.
    await app.fleet.client.send({"name": "endpoints/go", "data": {"id": keys[2]}})
    await run_at(app, firsts[2])
    assert (await ask(app, firsts[2].location)).json == {"got": {"id": keys[2]}}


async def test_waits_that_nothing_ends_time_out(app: SdkApp) -> None:
    for path in ("/wait?timeout=300ms", "/signal"):
        answer = await led(app, f"{path}{'&' if '?' in path else '?'}key={app.key()}")
        assert answer.json == {"got": None}


async def test_a_function_is_invoked(app: SdkApp) -> None:
    assert (await led(app, "/invoke")).json == 42


async def test_parallel_steps_are_done_once_and_what_follows_once(app: SdkApp) -> None:
    key = app.key()
    assert (await led(app, f"/parallel?key={key}")).json == {"both": ["p1", "p2"], "after": "after"}
    noted = await app.noted(key)
    assert [noted.count(step) for step in ("p1", "p2", "after")] == [1, 1, 1]


async def test_steps_and_waits_beside_each_other(app: SdkApp) -> None:
    key = app.key()
    assert (await led(app, f"/mixed?key={key}")).json == {"all": ["p1", None, None], "after": "after"}
    assert (await app.noted(key)).count("after") == 1


async def test_a_race_is_over_when_it_is_won(app: SdkApp) -> None:
    answer = await led(app, f"/race?key={app.key()}")
    assert answer.json == {"won": "fast"}


async def test_only_the_step_that_failed_is_done_again(app: SdkApp) -> None:
    key = app.key()
    assert (await led(app, f"/one-fails?key={key}")).json == ["sound", "ok"]
    assert (await app.noted(key)).count("sound") == 1


# Where callers are led.


async def test_a_caller_may_be_given_the_token(app: SdkApp) -> None:
    first = await ask(app, "/token")
    assert first.status == 200 and first.headers["content-type"] == "text/plain;charset=UTF-8"
    assert first.json.keys() == {"run_id", "token"}
    output = f"{app.fleet.server.url}/v1/http/runs/{first.json['run_id']}/output?token={first.json['token']}"
    assert (await ask(app, output)).json == "hello world "


async def test_a_caller_may_be_led_to_the_app_s_own_proxy(app: SdkApp) -> None:
    first = await ask(app, "/redirect-text")
    location = urlsplit(first.location)
    assert (f"{location.scheme}://{location.netloc}", location.path) == (app.url, "/poll")
    assert parse_qs(location.query).keys() == {"x", "runId", "token"}
    answer = await ask(app, first.location)
    assert (answer.status, answer.json) == (200, {"k": "v"})
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_a_caller_may_be_led_anywhere(app: SdkApp) -> None:
    absolute = urlsplit((await ask(app, "/redirect-absolute")).location)
    assert (absolute.netloc, absolute.path) == ("other.example", "/poll")
    made = await ask(app, "/redirect-made")
    assert made.location.startswith("https://my-app.example/poll?run=01") and made.location.endswith("&t=eyJhb")


async def test_the_proxy_tells_what_the_server_says(app: SdkApp) -> None:
    preflight = await ask(app, "/poll", method="OPTIONS")
    assert preflight.status == 204 and preflight.headers["access-control-allow-methods"] == "GET, OPTIONS"
    missing = await ask(app, "/poll")
    assert (missing.status, missing.json) == (400, {"error": "Missing runId or token query parameter"})
    bad = await ask(app, "/poll?runId=x&token=bad")
    assert bad.status == 401
    assert bad.json == {"error": "Unable to find run with auth token", "data": None, "status": 401}


# The request that is made again.


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_the_request_is_made_again_with_its_method(app: SdkApp, method: str) -> None:
    key = app.key()
    first = await ask(app, f"/body?key={key}", method=method, **{"x-mine": "lost", "content-type": "text/csv"})
    assert first.status == 302
    # Fetch changes the method of POST alone when it is led away.
    answer = await ask(app, first.location, method="GET" if method == "POST" else method)
    assert answer.status == 200
    assert answer.json == {"method": method, "type": "text/csv", "mine": None}
    assert await app.noted(key) == [f"begin {method}"] * 2


async def test_two_methods_of_one_function_do_not_mix(app: SdkApp) -> None:
    firsts = [await ask(app, f"/named?key={app.key()}", method=method) for method in ("GET", "POST")]
    answers = [await ask(app, first.location) for first in firsts]
    assert [answer.json["method"] for answer in answers] == ["GET", "POST"]
    runs = [await run_at(app, first) for first in firsts]
    assert {run.function_id.rpartition("-my-fn")[2] for run in runs} == {"-id"}


@pytest.mark.parametrize("body", ['{"a":1}', "aGVsbG8=", "é" * 1000])
async def test_a_request_with_a_body_is_taken(app: SdkApp, body: str) -> None:
    """The SDK reads the body itself, so handlers cannot; the server must not mind what it is."""
    key = app.key()
    first = await ask(app, f"/two?key={key}", method="POST", data=body.encode(), **{"content-type": "application/json"})
    assert (first.status, first.json) == (202, {"a": {"n": 1}, "b": 2})
    run = await latest(app, "POST /two")
    async with app.fleet.http.get(f"{app.fleet.server.url}/v1/events/{run.trigger.event_ids[0]}") as found:
        event = (await found.json())["data"]
    assert (run.status, event["data"]["body"]) == ("COMPLETED", body)


# Failures.


async def test_a_step_that_failed_is_tried_again(app: SdkApp) -> None:
    key = app.key()
    assert (await led(app, f"/flaky?key={key}")).json == {"n": 2}
    assert (await app.noted(key)).count("try") == 2


async def test_a_step_may_say_when(app: SdkApp) -> None:
    """Of the first attempt the SDK does not tell it, of later ones it does."""
    key = app.key()
    assert (await led(app, f"/retry-after?key={key}")).json == "at last"
    tries = [entry["at"] for entry in await app.journal(key) if entry["what"] == "try"]
    assert len(tries) == 3 and tries[2] - tries[1] >= 1500


@pytest.mark.parametrize(
    ("path", "tries"),
    # With one retry the SDK takes its first attempt for the last.
    [("/exhausted-caught", 3), ("/retries-0", 1), ("/retries-1", 1)],
)
async def test_when_all_attempts_have_failed_the_handler_sees_it(app: SdkApp, path: str, tries: int) -> None:
    key = app.key()
    answer = await led(app, f"{path}?key={key}")
    assert json.loads(answer.json) == {"caught": "always"}
    assert (await app.noted(key)).count("always") == tries


async def test_a_failure_that_nobody_catches_is_told_as_one(app: SdkApp) -> None:
    key = app.key()
    answer = await led(app, f"/exhausted?key={key}")
    assert (answer.status, answer.json) == (500, {"error": {"name": "Error", "message": "always"}})
    assert (await app.noted(key)).count("always") == 3


async def test_a_step_that_must_not_be_tried_again(app: SdkApp) -> None:
    key = app.key()
    assert (await led(app, f"/never?key={key}")).json == {"caught": "never"}
    assert (await app.noted(key)).count("never") == 1


@pytest.mark.parametrize(("path", "body"), [("/throws", {"ok": True}), ("/throws-first", {"n": 2})])
async def test_a_handler_that_throws_is_called_again(app: SdkApp, path: str, body: Json) -> None:
    key = app.key()
    assert (await led(app, f"{path}?key={key}")).json == body
    assert (await app.noted(key)).count("a") == (path == "/throws")


async def test_a_handler_that_always_throws_ends(app: SdkApp) -> None:
    key = app.key()
    answer = await led(app, f"/throws-always?key={key}")
    assert (answer.status, answer.json) == (500, {"error": {"name": "Error", "message": "always"}})
    assert (await app.noted(key)).count("try") == 3


async def test_a_handler_that_throws_for_good_tells_its_caller(app: SdkApp) -> None:
    answer = await ask(app, "/throws-final")
    assert (answer.status, answer.headers["x-inngest-no-retry"]) == (400, "true")
    assert answer.json["message"] == "fn final"


async def test_what_is_too_large_is_an_error_and_not_done_again(app: SdkApp) -> None:
    key = app.key()
    answer = await ask(app, f"/large?key={key}")
    assert answer.status == 500 and b"at most 4194304 are allowed" in answer.body
    run = await latest(app, "GET /large")
    assert run.status == "FAILED"
    assert (await app.noted(key)).count("large") == 1


# With keys.


KEY = "00ff" * 16


@pytest.fixture
async def locked(sdks: None, tmp_path: Path) -> AsyncGenerator[SdkApp, None]:
    async with running(tmp_path, "--no-poll", command="start", event_key="evtkey", signing_key=KEY) as fleet:
        app = fleet.process("endpoints", "endpoints")
        await app.start(INNGEST_SIGNING_KEY=f"signkey-prod-{KEY}")
        yield app


async def test_with_keys_requests_are_signed_and_only_those_are_calls(locked: SdkApp) -> None:
    app, key = locked, locked.key()
    answer = await led(app, f"/sleep?key={key}")
    assert answer.json == f"hello world ?key={key}"
    assert (await led(app, "/body", method="POST", data=b'{"b": 1, "a": "\xc3\xa9"}')).json["method"] == "POST"
    made: list[Callable[[], dict[str, str]]] = [
        lambda: {"x-inngest-signature": ""},
        lambda: {"x-inngest-signature": "t=1700000000&s=" + "0" * 64},
    ]
    for headers in made:
        forged = await ask(app, "/two", **{"x-run-id": "01M81198VWM7D9852ZF7Y29THA", **headers()})
        assert forged.status == 401, forged.body

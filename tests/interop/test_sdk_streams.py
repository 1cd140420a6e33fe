"""Endpoints that stream, on npm's SDK and its client: what is heard where the server relays it.

What is expected is what the SDK and the server of its makers do together, but for what they do wrong: what a process
that died has said is taken back, events are never torn apart, and a stream of more than a megabyte arrives.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from perdure.model.json import Json
from tests.support.sdk_apps import Fleet, SdkApp

pytestmark = [pytest.mark.timeout(120)]

COMMIT, ROLLBACK = {"is": "commit"}, {"is": "rollback"}


@pytest.fixture
async def app(fleet: Fleet) -> AsyncGenerator[SdkApp, None]:
    started = fleet.process("streams", "streams")
    await started.start(register=False)
    yield started
    started.kill()


async def heard(app: SdkApp, path: str) -> Json:
    return await app.ask("/listen", {"url": f"{app.url}{path}?key={app.key()}"})


async def test_a_stream_goes_on_after_a_wait(app: SdkApp) -> None:
    answer = await heard(app, "/talks")
    assert answer["heard"] == ["one", COMMIT, "two", "three", COMMIT]
    assert (answer["status"], answer["body"]) == (202, '{"said":3}')


async def test_each_failed_attempt_is_taken_back(app: SdkApp) -> None:
    answer = await heard(app, "/retries")
    assert answer["heard"] == ["try 1", ROLLBACK, "try 2", ROLLBACK, "try 3", COMMIT]
    assert (answer["status"], answer["body"]) == (200, '"done"')


async def test_the_response_comes_without_anything_else(app: SdkApp) -> None:
    answer = await heard(app, "/silent")
    assert (answer["status"], answer["body"], answer["heard"]) == (203, "nothing was streamed", [])
    assert answer["headers"]["x-kept"] == "yes"


async def test_a_failure_ends_the_stream(app: SdkApp) -> None:
    answer = await heard(app, "/fails")
    assert (answer["status"], answer["body"], answer["heard"]) == (500, '"never"', ["x", ROLLBACK])


async def test_steps_beside_each_other_do_not_tear_their_events_apart(app: SdkApp) -> None:
    answer = await heard(app, "/parallel")
    said = [word for word in answer["heard"] if isinstance(word, str)]
    for name in ("a", "b"):
        assert [word for word in said if word.startswith(name)] == [f"{name}{n} " for n in range(50)]


async def test_more_than_a_megabyte_arrives(app: SdkApp) -> None:
    answer = await heard(app, "/large")
    assert answer["body"] == "1500000"
    assert len(answer["heard"]) == 3001


async def test_what_a_process_that_died_has_said_is_taken_back(fleet: Fleet, app: SdkApp, free_port: int) -> None:
    dying = fleet.process("dying", "streams")
    await dying.start(register=False, PORT=str(free_port))
    listening = asyncio.create_task(app.ask("/listen", {"url": f"{dying.url}/dies"}))
    await asyncio.to_thread(_ended, dying)
    await dying.start(register=False, PORT=str(free_port), SECOND="1")
    answer = await listening
    dying.kill()
    assert answer["heard"] == ["first", ROLLBACK, "first", "second", COMMIT]
    assert answer["body"] == '"survived"'


def _ended(app: SdkApp) -> None:
    assert app._process is not None
    app._process.wait(30)

"""The streaming clients, of Python (async and blocking) and for pages, make the same of the same streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

import perdure.client
from perdure.client import StreamError, StreamEvent, StreamResponse, fetch_with_stream, sync
from perdure.model.json import Json
from tests.support.replaying import Case, Replaying, recorded, replaying
from tests.support.sdk_apps import node
from tests.support.stream_cases import CASES

ALL = recorded() | CASES
MODULE = Path(perdure.client.__file__).with_name("perdure-stream.js")
PAGE = Path(__file__).with_name("page.mjs")


class Told:
    """What a client told, in the words of the protocol."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Json]] = []
        self.stream_errors: list[str] = []
        self.done = 0
        self.error: str | None = None
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = ""

    def add(self, event: StreamEvent) -> None:
        assert self.done == 0
        self.events.append((type(event).__name__.lower(), msgspec.to_builtins(event)))

    def failed(self, message: str) -> None:
        self.stream_errors.append(message)

    def ended(self) -> None:
        self.done += 1

    def answered(self, response: StreamResponse) -> None:
        self.status, self.body = response.status_code, response.text
        self.headers = {key.lower(): ", ".join(response.headers.getall(key)) for key in response.headers}


async def by_python(server: Replaying) -> Told:
    told = Told()
    try:
        response = await fetch_with_stream(
            server.url,
            on_metadata=told.add,
            on_data=told.add,
            on_commit=told.add,
            on_rollback=told.add,
            on_stream_error=told.failed,
            on_done=told.ended,
        )
        told.answered(response)
    except StreamError as error:
        told.error = str(error)
    return told


async def blocking(server: Replaying) -> Told:
    told = Told()

    def call() -> None:
        try:
            response = sync.fetch_with_stream(
                server.url,
                on_metadata=told.add,
                on_data=told.add,
                on_commit=told.add,
                on_rollback=told.add,
                on_stream_error=told.failed,
                on_done=told.ended,
            )
            told.answered(response)
        except StreamError as error:
            told.error = str(error)

    await asyncio.to_thread(call)
    return told


async def by_page(server: Replaying) -> Told:
    process = await asyncio.create_subprocess_exec(
        node(), str(PAGE), str(MODULE), server.url, "{}", stdout=-1, stderr=-1
    )
    async with asyncio.timeout(30):
        out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    told = Told()
    for name, value in json.loads(out).items():
        setattr(told, name, [tuple(event) for event in value] if name == "events" else value)
    return told


Client = Callable[[Replaying], Awaitable[Told]]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("client", [by_python, blocking, by_page])
async def test_a_client_makes_of_a_stream_what_it_says(client: Client, name: str) -> None:
    case = ALL[name]
    async with replaying(case) as server:
        told = await client(server)
        check(told, case)
        if case.expected.resumed_after is not None:
            asked = [headers.get("last-event-id", "") for headers in server.requests["relay"]]
            assert asked == case.expected.resumed_after
        await server.closed()


def check(told: Told, case: Case) -> None:
    expected = case.expected
    assert told.events == expected.events
    streamed = "event-stream" in case.endpoint[0].headers["content-type"]
    assert told.done == (1 if streamed else 0)
    assert len(told.stream_errors) == len(expected.stream_errors)
    assert all(part in said for part, said in zip(expected.stream_errors, told.stream_errors, strict=True))
    if expected.error is not None:
        assert told.error is not None and expected.error in told.error
        return
    assert (told.error, told.status, told.body) == (None, expected.status, expected.body)
    assert {key: told.headers.get(key) for key in expected.headers} == dict(expected.headers)

"""The rest of a stream, at a server: the relay, which tells what the run says, and the output, which waits for its end.

Nothing that the caller sent to the endpoint is sent here, neither headers nor cookies: the addresses carry tokens of
their own, and may be those of another party.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import aiohttp

from perdure.client.stream_shapes import StreamResponse
from perdure.model.json import InvalidJsonError

EVENT_STREAM: Final = "text/event-stream"
NO_LIMIT: Final = aiohttp.ClientTimeout(total=None, sock_connect=30)
_RELAY_LIMIT: Final = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
"""A relay says at least a comment every 15 seconds: one that is silent for four of them is gone."""
_PASSING: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)


class RefusedError(Exception):
    """The relay answered with an error."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        said = f"Stream request failed: {response.status} {response.reason or ''}".rstrip()
        super().__init__("the stream is over: nothing comes after this event" if self.is_over else said)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left after the last event that came in."""
        return self.status == HTTPStatus.NO_CONTENT

    @property
    def lasting(self) -> bool:
        """Whether asking again would change nothing."""
        return self.status < HTTPStatus.INTERNAL_SERVER_ERROR and self.status not in _PASSING

    @property
    def expired(self) -> bool:
        """Whether it is the token that is not, or no longer, good."""
        return self.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class Relay:
    """Where a stream goes on; `url` and `output_url` are learned from the stream. Uses the connections of a client."""

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self.url: str | None = None
        self.output_url: str | None = None
        self._early: asyncio.Task[aiohttp.ClientResponse] | None = None
        self._asked_early = False
        # A session of its own, for the caller's may send cookies and keys with all that it asks.
        self._session = aiohttp.ClientSession(
            connector=client.connector,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=client.trust_env,
        )

    def ask_early(self, last_event_id: str) -> None:
        """Asks once, beside what goes on, so that nothing is missed of what is said from now on."""
        if not self._asked_early:
            self._asked_early = True
            self._early = asyncio.create_task(self._ask(last_event_id))

    async def connect(self, last_event_id: str) -> aiohttp.ClientResponse:
        """What the relay tells; the first time, as it was asked early. Raises `RefusedError` and aiohttp's errors."""
        if self._early is None:
            return await self._ask(last_event_id)
        early, self._early = self._early, None
        return await early

    async def output(self) -> StreamResponse | None:
        """The final answer, waited for by a long poll; None if the run goes on. Raises aiohttp's errors."""
        answer = await whole(await self._session.get(self.output_url or "", timeout=NO_LIMIT))
        return None if _still_running(answer) else answer

    async def aclose(self) -> None:
        """Closes what is open."""
        if self._early is not None:
            self._early.cancel()
            for outcome in await asyncio.gather(self._early, return_exceptions=True):
                if isinstance(outcome, aiohttp.ClientResponse):
                    outcome.close()
        await self._session.close()

    async def _ask(self, last_event_id: str) -> aiohttp.ClientResponse:
        headers = {"accept": EVENT_STREAM} | ({"last-event-id": last_event_id} if last_event_id else {})
        response = await self._session.get(self.url or "", headers=headers, timeout=_RELAY_LIMIT)
        if not response.ok or response.status == HTTPStatus.NO_CONTENT:
            response.close()
            raise RefusedError(response)
        return response


async def whole(response: aiohttp.ClientResponse) -> StreamResponse:
    """An answer that is no stream, with its body."""
    async with response:
        return StreamResponse(response.status, list(response.headers.items()), await response.read())


def left_over(content: aiohttp.StreamReader) -> bytes:
    """What came in before a connection broke and was not read yet: aiohttp has it, but raises the error instead.

    Without it, the end of a stream would depend on how fast it was read.
    """
    read: Callable[[int], bytes] | None = getattr(content, "_read_nowait", None)
    return b"" if read is None else read(-1)


def _still_running(answer: StreamResponse) -> bool:
    if answer.status_code == HTTPStatus.ACCEPTED and "retry-after" in answer.headers:
        return True
    # What the protocol's servers say after five minutes. Results are sent as JSON, this as plain text.
    if not answer.headers.get("content-type", "").startswith("text/plain"):
        return False
    try:
        found = answer.json()
    except InvalidJsonError:
        return False
    return isinstance(found, dict) and found.get("status") == "running"

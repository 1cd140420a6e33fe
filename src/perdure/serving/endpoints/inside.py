"""Requests to an engine in the same process: what goes to a server elsewhere goes to its application directly.

So endpoints speak one protocol, whoever records their steps; what is saved is the network, not the code.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Protocol, TypeVar
from urllib.parse import urlsplit

from perdure.model.json import Json
from perdure.serving.outbound import Outbound, Received, Reply, ServerError
from perdure.serving.settings import Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message

T = TypeVar("T")

HOST: Final = "engine.invalid"
"""What such an engine is called in URLs: nothing outside of the process reaches it by that."""
_HELD: Final = 64
"""How many pieces of an answer wait to be read."""
_SETTINGS: Final = Settings(True, (), None, f"http://{HOST}", f"http://{HOST}", None, None, None, None, False)


class Engine(Protocol):
    """What runs an app in this process, as far as endpoints need to know it."""

    def asgi(self) -> ASGIApp:
        """The server of the engine."""
        ...


class InsideOutbound(Outbound):
    """Requests of an app to the engine of its process. `loop` is where the engine lives."""

    def __init__(self, application: ASGIApp, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(_SETTINGS)
        self._application = application
        self._loop = loop

    async def _request(
        self, method: str, url: str, data: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Received:
        sent = {**headers, "content-type": "application/json"}
        try:
            async with asyncio.timeout(timeout):
                return await self._at_home(lambda: self._ask_inside(method, url, data or b"", sent))
        except TimeoutError as error:
            raise ServerError(f"the engine did not answer {method} {urlsplit(url).path} within {timeout:g}s") from error

    async def _ask_inside(self, method: str, url: str, data: bytes, headers: Mapping[str, str]) -> Received:
        found, body = 0, bytearray()
        incoming: list[Message] = [{"type": "http.request", "body": data, "more_body": False}]

        async def receive() -> Message:
            return incoming.pop() if incoming else await asyncio.get_running_loop().create_future()

        async def send(message: Message) -> None:
            nonlocal found
            found = message.get("status", found)
            body.extend(message.get("body", b""))

        try:
            await self._application(_scope(method, url, headers), receive, send)
        except Exception as error:
            raise ServerError(f"the engine failed: {type(error).__name__}: {error}") from error
        return Received(found, bytes(body))

    @asynccontextmanager
    async def open(
        self, method: str, path: str, headers: Mapping[str, str], body: AsyncIterator[bytes] | None = None
    ) -> AsyncGenerator[Reply, None]:
        """See `Outbound.open`. In another event loop than the engine's there is none."""
        if asyncio.get_running_loop() is not self._loop:
            raise ServerError("streams of an engine are for the event loop that it lives in")
        async with exchange(self._application, method, path, headers, body or _once(b"")) as reply:
            yield reply

    async def _at_home(self, ask: Callable[[], Coroutine[Json, Json, T]]) -> T:
        if asyncio.get_running_loop() is self._loop:
            return await ask()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(ask(), self._loop))


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


@asynccontextmanager
async def exchange(
    application: ASGIApp, method: str, url: str, headers: Mapping[str, str], body: AsyncIterator[bytes]
) -> AsyncGenerator[Reply, None]:
    """A request to an ASGI application. Raises `ServerError` when it fails before it answers."""
    talk = _Talk(body)
    task = asyncio.ensure_future(_run(application, _scope(method, url, headers), talk))
    try:
        start = await talk.said.get()
        if start is None:
            task.result()
            raise ServerError("the engine gave no answer")
        found = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in start["headers"]]
        yield Reply(start["status"], found, talk.chunks())
    finally:
        talk.left.set()
        if not task.done():
            task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            # What went wrong after the answer began shows in the answer.
            task.exception()


async def _run(application: ASGIApp, scope: dict[str, Json], talk: _Talk) -> None:
    try:
        await application(scope, talk.receive, talk.send)
    except Exception as error:
        raise ServerError(f"the engine failed: {type(error).__name__}: {error}") from error
    finally:
        talk.end()


class _Talk:
    """One request, seen from both sides."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body: AsyncIterator[bytes] | None = body
        self.said: asyncio.Queue[Message | None] = asyncio.Queue(_HELD)
        self.left = asyncio.Event()
        self._over = False

    async def receive(self) -> Message:
        if self._body is not None:
            async for chunk in self._body:
                return {"type": "http.request", "body": chunk, "more_body": True}
            self._body = None
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if not self._over:
            await self.said.put(message)
            self._over = message["type"] == "http.response.body" and not message.get("more_body", False)
            if self._over:
                await self.said.put(None)

    def end(self) -> None:
        if not self._over:
            self._over = True
            while self.said.full():
                self.said.get_nowait()
            self.said.put_nowait(None)

    async def chunks(self) -> AsyncIterator[bytes]:
        while (message := await self.said.get()) is not None:
            chunk: bytes = message.get("body", b"")
            if chunk:
                yield chunk


def _scope(method: str, url: str, headers: Mapping[str, str]) -> dict[str, Json]:
    parts = urlsplit(url)
    given = {"host": HOST, **{name.lower(): value for name, value in headers.items()}}
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given.items()],
        "client": ("127.0.0.1", 0),
        "server": (HOST, 80),
    }

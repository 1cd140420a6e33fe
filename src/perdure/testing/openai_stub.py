"""A stub of OpenAI's server: real HTTP, streaming, tool calls and errors on demand, answered by a script.

    async with OpenAIStub() as stub:                     # directives of `perdure.testing.script`
        os.environ["OPENAI_BASE_URL"] = stub.base_url     # model "openai/any" or "openai-chat/any"

As a process: `python -m perdure.testing.openai_stub --port 0` prints its base URL as the first line, and goes on until
it is stopped. It serves `/v1/chat/completions`, `/v1/responses`, `/v1/models`, and what it was asked at `/requests`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from aiohttp import web

from perdure.model.json import InvalidJsonError, Json, decode, encode
from perdure.testing.openai_wire import (
    CREATED,
    Said,
    asked_in_chat,
    asked_in_responses,
    chat_end,
    chat_frames,
    chat_start,
    chat_whole,
    error_body,
)
from perdure.testing.responses_wire import ResponseStream, sources_first
from perdure.testing.script import Asked, Break, Delay, Fail, Piece, Script, Text, Turn

MAX_BODY = 64 * 1024 * 1024


class OpenAIStub:
    """The server. `requests` are the bodies that it was sent, in order, each with its `path` and `headers` beside."""

    def __init__(
        self,
        turns: Sequence[Turn] | Callable[[Asked], Turn] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.requests: list[dict[str, Json]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self._script = Script(turns)
        self._host = host
        self._port = port
        self._runner: web.AppRunner | None = None

    @property
    def calls(self) -> int:
        """How many answers it was asked for."""
        return len(self.requests)

    @property
    def base_url(self) -> str:
        """Where it is, as `http://127.0.0.1:45123/v1`."""
        return f"http://{self._host}:{self._port}/v1"

    async def start(self) -> None:
        """Listens; `base_url` is right from here on."""
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/responses", self._responses)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/requests", self._told)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Lets go of its connections and its port."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> OpenAIStub:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request)
        if isinstance(body, web.Response):
            return body
        made = self._pieces(asked_in_chat(body, self.calls - 1))
        model, id = str(body.get("model", "stub")), f"chatcmpl-{self.calls}"
        with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        if not body.get("stream"):
            return await self._whole(request, made, lambda said: chat_whole(said, model, id))
        said = Said()

        def frames(piece: Piece | None) -> Iterator[Json]:
            if piece is None:
                yield chat_start(model, id)
                return
            yield from chat_frames(piece, said, model, id)
            said.take(piece)

        def end() -> Iterator[Json]:
            yield from chat_end(said, model, id, with_usage=with_usage)

        return await self._stream(request, made, frames, end, named=False)

    async def _responses(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request)
        if isinstance(body, web.Response):
            return body
        made = sources_first(self._pieces(asked_in_responses(body, self.calls - 1)))
        stream = ResponseStream(str(body.get("model", "stub")), f"resp_{self.calls}")

        def frames(piece: Piece | None) -> Iterator[Json]:
            yield from stream.start() if piece is None else stream.piece(piece)

        if body.get("stream"):
            return await self._stream(request, made, frames, stream.end, named=True)

        def whole(said: Said) -> Json:
            for piece in made:
                for _ in stream.piece(piece):
                    pass
            return next(iter(stream.end()))["response"]

        return await self._whole(request, made, whole)

    async def _whole(
        self, request: web.Request, pieces: list[Piece], whole: Callable[[Said], Json]
    ) -> web.StreamResponse:
        said = Said()
        for piece in pieces:
            if isinstance(piece, Fail):
                return _refused(piece)
            if isinstance(piece, Break):
                return _cut(request)
            await _pause(piece)
            said.take(piece)
        return _json(whole(said))

    async def _stream(
        self,
        request: web.Request,
        pieces: list[Piece],
        frames: Callable[[Piece | None], Iterator[Json]],
        end: Callable[[], Iterator[Json]],
        *,
        named: bool,
    ) -> web.StreamResponse:
        if pieces and isinstance(pieces[0], Fail):
            return _refused(pieces[0])
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        # Whoever asked may be gone, killed in a test say.
        with contextlib.suppress(ConnectionError):
            async for frame in self._frames(pieces, frames, end, named=named):
                if frame is None:
                    return _cut(request, response)
                await response.write(_sse(frame, named=named))
            if not named:
                await response.write(b"data: [DONE]\n\n")
            await response.write_eof()
        return response

    async def _frames(
        self,
        pieces: list[Piece],
        frames: Callable[[Piece | None], Iterator[Json]],
        end: Callable[[], Iterator[Json]],
        *,
        named: bool,
    ) -> AsyncIterator[Json]:
        """Everything that is sent; None where the connection breaks."""
        for frame in frames(None):
            yield frame
        for piece in pieces:
            if isinstance(piece, Break):
                yield None
                return
            if isinstance(piece, Fail):
                fault = error_body(piece)
                told = {"code": None, "param": None, "message": piece.message}
                yield {"type": "error", "sequence_number": 0, **told} if named else fault
                return
            if not isinstance(piece, Text):
                await _pause(piece)
            for frame in frames(piece):
                if isinstance(piece, Text) and piece.pause:
                    await asyncio.sleep(piece.pause / 1000)
                yield frame
        for frame in end():
            yield frame

    def _pieces(self, asked: Asked) -> list[Piece]:
        try:
            return self._script.answer(asked)
        except IndexError as error:
            return [Fail(str(error), 400)]

    async def _body(self, request: web.Request) -> dict[str, Json] | web.Response:
        try:
            body = decode(await request.read())
        except InvalidJsonError as error:
            return _refused(Fail(f"the body is not JSON: {error}", 400))
        if not isinstance(body, dict):
            return _refused(Fail("the body must be an object", 400))
        self.requests.append(body)
        self.paths.append(request.path)
        self.headers.append(dict(request.headers))
        return body

    async def _models(self, request: web.Request) -> web.Response:
        model = {"id": "stub", "object": "model", "created": CREATED, "owned_by": "perdure"}
        return _json({"object": "list", "data": [model]})

    async def _told(self, request: web.Request) -> web.Response:
        return _json({"calls": self.calls, "requests": self.requests})


def _json(value: Json, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=encode(value), status=status, headers=headers, content_type="application/json")


def _refused(fail: Fail) -> web.Response:
    headers = {} if fail.retry_after is None else {"Retry-After": f"{fail.retry_after:g}"}
    return _json(error_body(fail), fail.status, headers)


def _cut(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
    """Ends the connection in the middle, as a crash of the other side does."""
    if request.transport is not None:
        request.transport.abort()
    return response or web.Response(status=500)


async def _pause(piece: Piece) -> None:
    if isinstance(piece, Delay):
        await asyncio.sleep(piece.ms / 1000)


def _sse(frame: Json, *, named: bool) -> bytes:
    head = b"event: " + frame["type"].encode() + b"\n" if named else b""
    return head + b"data: " + encode(frame) + b"\n\n"


@contextlib.contextmanager
def served(turns: Sequence[Turn] | Callable[[Asked], Turn] | None = None) -> Generator[OpenAIStub]:
    """A stub in a thread of its own, for code that has no event loop to spare."""
    stub = OpenAIStub(turns)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="openai-stub", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(stub.start(), loop).result()
        yield stub
        asyncio.run_coroutine_threadsafe(stub.stop(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _serve(host: str, port: int, ready_file: Path | None) -> None:
    async with OpenAIStub(host=host, port=port) as stub:
        print(stub.base_url, flush=True)
        if ready_file is not None:
            ready_file.write_text(stub.base_url)
        await asyncio.Event().wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser(
        prog="perdure.testing.openai_stub", description="A stub of OpenAI's server, answered by a script."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--ready-file", type=Path, help="where to write the base URL once it listens")
    given = parser.parse_args(arguments)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(given.host, given.port, given.ready_file))


if __name__ == "__main__":
    main()

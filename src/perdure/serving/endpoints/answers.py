"""The answer to a request of an endpoint, as an ASGI application: the first one of a run, a later one, or an output.

The handler lives in a task of its own, so it ends whether or not its caller stays. Invariants:
- there is exactly one answer, and what was recorded is what it says: a caller gets the handler's response, or where
  the response will be, or what went wrong;
- a run whose handler has ended is reported as ended, also when nobody was there to hear it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from inspect import isawaitable
from typing import Final

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from perdure.model.errors import ConfigError
from perdure.model.event import Event
from perdure.model.ids import UlidFactory, step_hash
from perdure.model.json import Json
from perdure.model.ops import RUN_COMPLETE, STEP_FAILED
from perdure.sdk.endpoint import Endpoint, Invocation
from perdure.sdk.failure import failure_of
from perdure.sdk.function import Function
from perdure.serving.endpoints import events
from perdure.serving.endpoints.caller import Caller
from perdure.serving.endpoints.checkpoints import Begun, NewRun, RefusedReportError
from perdure.serving.endpoints.first import Broken, EndpointTimeoutError, FirstHost, Raised, Suspended, function_of
from perdure.serving.endpoints.later import LaterCall, Returns
from perdure.serving.endpoints.links import Link, link_of
from perdure.serving.endpoints.outputs import answer_output, wanted_output
from perdure.serving.endpoints.recorder import Recorder
from perdure.serving.endpoints.redirects import RedirectError, Redirects
from perdure.serving.endpoints.requests import BodyTooLargeError, CallerGoneError, EndpointRequest, read, read_given
from perdure.serving.endpoints.responses import (
    Capture,
    Captured,
    capture,
    is_response,
    of_exception,
    problem_of,
    render,
    too_large,
)
from perdure.serving.endpoints.streaming import CallerChannel
from perdure.serving.exchange import HANDLED, REQUEST_VERSION, Answer, problem, sdk_name, unauthorized
from perdure.serving.incoming import CallError
from perdure.serving.outbound import ServerError
from perdure.serving.streaming import NoChannel
from perdure.wire import headers as names
from perdure.wire.endpoints import HTTP_REQUEST

_log = logging.getLogger("perdure.serving")
_FUNCTION: Final = step_hash("complete")
_alive: set[asyncio.Task[None]] = set()
"""Handlers at work: the event loop alone would let them be collected."""


class EndpointAnswer(Response):
    """Answers one request. `invocation` is there if a framework called the handler."""

    def __init__(
        self, endpoint: Endpoint, invocation: Invocation | None, now: Callable[[], int], ids: UlidFactory
    ) -> None:
        super().__init__()
        self._endpoint = endpoint
        self._config = endpoint.config
        self._invocation = invocation
        self._now = now
        self._ids = ids

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _decline(scope, receive, send)
            return
        caller = Caller(receive, send)
        try:
            link = link_of(self._endpoint.app)
            wanted = wanted_output(scope) if link.public_url is None else None
            if wanted is not None:
                await answer_output(link, wanted, scope, receive, send)
                return
            request = await self._read(scope, receive)
        except ConfigError as error:
            _log.error("endpoint %r cannot answer: %s", self._endpoint, error)
            await caller.answer(_problem(500, "ConfigError", str(error)))
            return
        except BodyTooLargeError:
            await caller.answer(too_large(self._config.max_body))
            return
        except CallerGoneError:
            return
        if not request.has_host:
            await caller.answer(_problem(400, "BadHostError", "the header host is none"))
            return
        run_id = request.reentered_run
        work = self._first(request, link, caller) if run_id is None else self._later(request, run_id, link, caller)
        await caller.served_by(_detached(work))
        background: BackgroundTask | None = self.background
        if background is not None:
            await background()

    async def _read(self, scope: Scope, receive: Receive) -> EndpointRequest:
        if self._invocation is None:
            return await read(scope, receive, self._config.max_body)
        try:
            return await read_given(self._invocation.request, self._config.max_body)
        except RuntimeError as error:
            fix = "read forms in the handler (await request.form()), or route to the endpoint as an ASGI application"
            raise ConfigError(
                f"{self._endpoint!r}", [f"the body was read before the endpoint could keep it: {fix}"]
            ) from error

    # The first request of a run.

    async def _first(self, request: EndpointRequest, link: Link, caller: Caller) -> None:
        now = self._now()
        run_id = self._ids()
        data = request.event_data(self._config.function_id, self._config.capture_headers, link.origin, link.path)
        run = NewRun(run_id, data, self._config.retries, now)
        first = _First(self._endpoint, request, run, link, caller, self._now)
        await first.serve(self._function(request.replayed(run_id), first.returns))

    def _function(self, request: Request, returns: Returns) -> Function[Json]:
        """The handler as a function that leaves what it returns in `returns`."""
        given = self._invocation
        call: Callable[[Json], Json] = self._endpoint.handler if given is None else given.call

        async def waited(_: Json) -> None:
            try:
                value = call(request)
                returns.value = await value if isawaitable(value) else value
            except Exception as error:
                returns.value = _answered(error)

        def plain(ctx: Json) -> Json:
            try:
                value = call(request)
            except Exception as error:
                value = _answered(error)
            if isawaitable(value):
                return waited(ctx)
            returns.value = value
            return None

        name = self._config.function_id or f"{request.method} {request.url.path}"
        handler = waited if self._endpoint.is_async else plain
        return function_of(self._endpoint.app.id, name, self._config.retries, handler)

    # Later ones.

    async def _later(self, request: EndpointRequest, run_id: str, link: Link, caller: Caller) -> None:
        signature, request_id = request.header(names.SIGNATURE) or "", request.header(names.REQUEST_ID) or ""
        if not link.may_call(run_id, request_id, signature, request.body, self._now()):
            _log.warning("a call of run %s was refused: it is not by the server of the app", run_id)
            found = unauthorized()
        else:
            found = await self._replayed(request, run_id, link)
        headers = {"content-type": "application/json", **found.headers, HANDLED: "true"}
        if not found.turned_away:
            headers |= {names.SDK: sdk_name(), names.REQ_VERSION: str(REQUEST_VERSION), names.FRAMEWORK: "asgi"}
            if link.signer is not None:
                headers[names.SIGNATURE] = link.signer.sign(found.body, self._now())
        await caller.answer(Captured(found.status, tuple(headers.items()), found.body))

    async def _replayed(self, request: EndpointRequest, run_id: str, link: Link) -> Answer:
        try:
            state = await link.checkpoints.state(run_id)
        except (ServerError, CallError) as error:
            return problem(500, "internal", type(error).__name__, str(error), retry=True)
        if state.events:
            request = request.as_recorded(state.events[0].data)
        replayed, returns = request.replayed(run_id), Returns()
        call = LaterCall(run_id, request, state, link.outbound, self._now)
        function = self._function(replayed, returns)
        return await call.answer(
            function, returns, replayed, timeout=self._config.timeout, most=self._config.max_response
        )


class _First:
    """The first request of one run."""

    def __init__(
        self,
        endpoint: Endpoint,
        request: EndpointRequest,
        run: NewRun,
        link: Link,
        caller: Caller,
        now: Callable[[], int],
    ) -> None:
        self._config = endpoint.config
        self._request = request
        self._link = link
        self._caller = caller
        self._now = now
        self._run = run
        self.returns = Returns()
        self._stream = CallerChannel(run.run_id) if request.takes_stream else None
        self._recorder = Recorder(link.checkpoints, run, now)
        self._redirects = Redirects(endpoint.config, request, link)
        self._telling: asyncio.Task[None] | None = None

    async def serve(self, function: Function[Json]) -> None:
        """Lets the handler run, and answers."""
        event = Event(HTTP_REQUEST, self._run.request, self._run.run_id, self._run.ts)
        if self._stream is not None:
            self._caller.follow(self._stream)
        host = FirstHost(
            function, event, self._recorder, self._link.outbound, self._stream or NoChannel(), self._now,
            timeout=self._config.timeout, inside=self._link.expecting is not None, on_begun=self._begun,
        )  # fmt: skip
        outcome = await host.run()
        if isinstance(outcome, Raised):
            await self._raised(outcome.error)
        elif isinstance(outcome, Broken):
            await self._broken(outcome.error)
        elif isinstance(outcome, Suspended):
            await self._suspended(outcome.begun)
        else:
            beating = asyncio.create_task(host.beat())
            try:
                await self._returned()
            finally:
                beating.cancel()

    def _begun(self, begun: Begun) -> None:
        if self._stream is not None and self._telling is None:
            self._telling = asyncio.ensure_future(self._tell_redirect(begun, self._stream))

    async def _tell_redirect(self, begun: Begun, stream: CallerChannel) -> None:
        stream.redirect(await self._redirects.stream(begun), await self._redirects.output(begun))

    async def _returned(self) -> None:
        value = self.returns.value
        request = self._request.replayed(self._run.run_id)
        taken: Capture | None = None
        try:
            if self._stream is not None or not is_response(value):
                captured = await capture(value, request, self._config.max_response)
            else:
                taken = Capture(self._config.max_response, self._caller.send, strict=False)
                captured = await render(value, request, taken)
        except Exception as error:
            _log.warning("run %s: its answer could not be made: %s", self._run.run_id, type(error).__name__)
            if taken is not None and taken.begun:
                # All that can still be said is that the answer is not complete.
                self._caller.abort()
            if await self._end(STEP_FAILED, error=failure_of(error, self._now()).info.to_json()):
                await self._raised(error)
            return
        if self._stream is not None:
            await self._settled()
            self._stream.end(events.succeeded(captured))
        elif taken is None and not isinstance(value, Captured):
            # What is no answer of the handler's own making is given once the run is recorded.
            if not await self._end(RUN_COMPLETE, data=captured.result()):
                return
            await self._caller.answer(captured)
            return
        elif taken is None:
            await self._caller.answer(captured)
        self._caller.answered()
        await self._end(RUN_COMPLETE, data=captured.result())

    async def _end(self, op: str, **outcome: Json) -> bool:
        """Reports the end of the run; whether it was taken."""
        try:
            await self._recorder.record({"op": op, "id": _FUNCTION, **outcome})
        except Exception as error:
            if self._caller.is_answered:
                _log.warning("run %s: its end could not be recorded: %s", self._run.run_id, error)
            else:
                await self._broken(error)
            return False
        return True

    async def _suspended(self, begun: Begun) -> None:
        try:
            if self._stream is not None:
                self._begun(begun)
                await self._told()
                self._stream.end()
            else:
                await self._caller.answer(await self._redirects.answer(begun))
        except RedirectError as error:
            await self._not_led(error)

    async def _not_led(self, error: RedirectError) -> None:
        """The run goes on, but its caller does not learn where."""
        run_id = self._run.run_id
        _log.error("run %s goes on, but its caller was not led to its answer: %s", run_id, error, exc_info=error)
        told = str(error) if self._expose_errors else f"{error.option} failed"
        if self._stream is not None:
            self._stream.end(events.failed(f"the run goes on, but not here: {told}"))
            return
        message = f"the run goes on, but where its answer will be is not known: {told}"
        body = {"name": "RedirectError", "message": message, "run_id": run_id}
        await self._caller.answer(problem_of(500, body, retry=False))

    async def _raised(self, error: BaseException) -> None:
        """The handler failed for good."""
        if self._caller.is_answered:
            return
        info = failure_of(error, self._now()).info
        told = {"name": info.name, "message": info.message}
        if self._expose_errors:
            told["stack"] = info.stack
        if self._stream is not None and self._stream.active.is_set():
            await self._settled()
            self._stream.end(events.failed(info.message))
        else:
            status = 504 if isinstance(error, EndpointTimeoutError) else 400
            await self._caller.answer(problem_of(status, told, retry=False))

    @property
    def _expose_errors(self) -> bool:
        return self._link.expose_errors if self._config.expose_errors is None else self._config.expose_errors

    async def _broken(self, error: Exception) -> None:
        """The run could not be recorded. One that goes on without this request still has an answer."""
        begun = self._recorder.begun
        if begun is not None and (_is_stale(error) or (begun.goes_on and isinstance(error, ServerError))):
            # A server of ours that was not reached makes the request again, once it has heard nothing for a while.
            _log.warning("run %s goes on without the request that began it: %s", self._run.run_id, error)
            await self._suspended(begun)
            return
        _log.error("run %s could not be recorded: %s", self._run.run_id, error)
        if self._stream is not None and self._stream.active.is_set():
            await self._settled()
            self._stream.end(events.failed("Internal execution error"))
            return
        refused = isinstance(error, RefusedReportError) and error.status == 413
        status, what = (413, str(error)) if refused else (500, "the run of this request could not be recorded")
        await self._caller.answer(
            problem_of(status, {"name": type(error).__name__, "message": what}, retry=not refused)
        )

    async def _told(self) -> None:
        """Waits until the caller is told where its stream goes on. Raises `RedirectError`."""
        if self._telling is not None:
            await self._telling

    async def _settled(self) -> None:
        """The same, where the stream ends here: then nobody needs to know where it would have gone on."""
        try:
            await self._told()
        except RedirectError as error:
            _log.error("run %s: %s", self._run.run_id, error, exc_info=error)


def _is_stale(error: Exception) -> bool:
    return isinstance(error, RefusedReportError) and error.is_stale


def _answered(error: Exception) -> Captured:
    """The answer that an exception of the handler is, or the exception again."""
    found = of_exception(error)
    if found is None:
        raise error
    return found


def _detached(work: Json) -> asyncio.Task[None]:
    task: asyncio.Task[None] = asyncio.create_task(work)
    _alive.add(task)
    task.add_done_callback(_alive.discard)
    return task


async def _decline(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1003})
        return
    while scope["type"] == "lifespan":
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _problem(status: int, name: str, message: str) -> Captured:
    told = {"name": name, "message": message} if status < 500 else {"name": name, "message": HTTPStatus(status).phrase}
    return problem_of(status, told, retry=False)

"""The `step` namespace: what a handler calls to do something once, to wait, and to reach other runs.

Every method is a plain `def` that checks its arguments and counts the use of its id at once, and gives a
coroutine to await. So the order of the calls decides which use of an id is which, however the awaiting is
arranged (`asyncio.gather`, `TaskGroup`), and a wrong argument fails where it is written.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Literal, ParamSpec, TypeAlias, TypeVar, overload

import msgspec

from perdure.model import ops, values
from perdure.model.config import Duration
from perdure.model.event import Event
from perdure.model.json import Json
from perdure.model.limits import MAX_RETRIES
from perdure.model.ops import Op
from perdure.sdk import arguments
from perdure.sdk.arguments import EventLike, StepArgumentError
from perdure.sdk.callables import call_kind
from perdure.sdk.execution import StepCall, current
from perdure.sdk.function import Function
from perdure.sdk.inference import Adapter, infer, inference_request
from perdure.sdk.mcp import McpSteps
from perdure.sdk.port import FetchRequest, FetchResponse

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Pending: TypeAlias = Coroutine[Json, Json, T]
"""What a step gives: to be awaited, gathered, or made a task of."""

DEFAULT_FETCH_TIMEOUT = 60
DEFAULT_INFER_TIMEOUT = 600


class Signal(msgspec.Struct):
    """A signal that a run waited for, with the data sent along."""

    signal: str
    data: Json = None


class StepOptions(msgspec.Struct, frozen=True):
    """How a step is attempted: retries instead of the function's, and ms that one attempt may take."""

    retries: int | None = None
    timeout: int | None = None


class CallSteps:
    """The steps that call something: `run`, `fetch`, `ai.*`, `mcp.call`; with the options of `step.with_`."""

    def __init__(self, options: StepOptions | None = None) -> None:
        self._options = options
        self.ai = AiSteps(self)
        self.mcp = McpSteps(self)

    @overload
    def run(self, id: str, call: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Pending[T]: ...
    @overload
    def run(self, id: str, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Pending[T]: ...
    def run(self, id: str, call: Callable[..., Json], /, *args: Json, **kwargs: Json) -> Pending[Json]:
        """Calls `call(*args, **kwargs)` once and records what it returns; replays see the recorded value.

        A plain function runs in a worker thread. The value comes back as the return annotation says. When the
        callable raises, it is attempted again; `StepError` is raised when no retry is left.

        >>> async def handler(ctx):
        ...     return await step.run("charge", charge_card, ctx.event.data["order"], currency="EUR")
        """
        return self.call(id, call, args, kwargs)

    def fetch(
        self,
        id: str,
        url: str,
        /,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: Json = None,
        timeout: Duration = DEFAULT_FETCH_TIMEOUT,
    ) -> Pending[FetchResponse]:
        """Makes an HTTP request once. Every status is an answer; having none is an error, and retried.

        `body` is text, bytes, or a value sent as JSON. `timeout` defaults to 60 seconds.
        """
        arguments.check_id(id)
        execution = current(id)
        seconds = arguments.duration(id, "timeout", timeout) / 1000
        request = _request(id, url, method, headers, body, seconds)
        opts = {"type": "step.fetch", "input": [{"url": url, "method": request.method}]}
        return execution.run_step(
            self.apply(
                StepCall(execution.claim(id), id, execution.host.fetch, (request,), {}, True, FetchResponse, opts)
            )
        )

    def call(
        self,
        id: str,
        call: Callable[..., Json],
        args: tuple[Json, ...],
        kwargs: dict[str, Json],
        opts: dict[str, Json] | None = None,
    ) -> Pending[Json]:
        """`run` with its arguments as they are, and with `opts` to record."""
        arguments.check_id(id)
        execution = current(id)
        if not callable(call):
            raise StepArgumentError(id, "call", _not_callable(id, call))
        is_async, returns = call_kind(call)
        unit = StepCall(execution.claim(id), id, call, args, kwargs, is_async, returns, opts)
        return execution.run_step(unit if self._options is None else self.apply(unit))

    def apply(self, unit: StepCall) -> StepCall:
        """The call with these steps' options."""
        options = self._options
        if options is not None:
            unit.timeout = options.timeout
            if options.retries is not None:
                unit.opts = {**(unit.opts or {}), "retries": options.retries}
        return unit


class AiSteps:
    """Steps that call models."""

    def __init__(self, steps: CallSteps) -> None:
        self._steps = steps

    @overload
    def wrap(self, id: str, call: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Pending[T]: ...
    @overload
    def wrap(self, id: str, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Pending[T]: ...
    def wrap(self, id: str, call: Callable[..., Json], /, *args: Json, **kwargs: Json) -> Pending[Json]:
        """`step.run` for a call of a model: its arguments are recorded too, for the trace."""
        inputs = [_shown(value) for value in (*args, *([kwargs] if kwargs else []))]
        return self._steps.call(id, call, args, kwargs, {"type": "step.ai.wrap", "input": inputs})

    def infer(
        self,
        id: str,
        /,
        *,
        adapter: Adapter,
        body: Mapping[str, Json],
        timeout: Duration = DEFAULT_INFER_TIMEOUT,
    ) -> Pending[Json]:
        """Asks a model once, and gives what its provider answers, as JSON.

        `adapter` says where and how (see `AiModel`); `body` is the request in that provider's format, the model's
        name apart. It is recorded, the key is not. Any status but 2xx is an error and retried, when the provider
        says so (Retry-After), as is having no answer within `timeout` (10 minutes).

        >>> async def handler(ctx):
        ...     model = AiModel.openai("gpt-5", api_key=os.environ["OPENAI_API_KEY"])
        ...     messages = [{"role": "user", "content": ctx.event.data["question"]}]
        ...     answer = await step.ai.infer("ask", adapter=model, body={"messages": messages})
        ...     return answer["choices"][0]["message"]["content"]
        """
        arguments.check_id(id)
        execution = current(id)
        content = arguments.json_object(id, "body", body)
        seconds = arguments.duration(id, "timeout", timeout) / 1000
        adapter.on_call(content)
        request = _inference(id, adapter, content, seconds)
        opts = {"type": "step.ai.infer", "input": [content]}
        given = (execution.host, request, adapter.auth_key())
        return execution.run_step(
            self._steps.apply(StepCall(execution.claim(id), id, infer, given, {}, True, None, opts))
        )


class Steps(CallSteps):
    """The steps of an async handler. `perdure.sync.step` is the same for plain ones."""

    def with_(self, *, retries: int | None = None, timeout: Duration | None = None) -> CallSteps:
        """Options for one step: `await step.with_(retries=8, timeout="30s").run("charge", charge_card)`.

        `retries` (0 to 20) replaces the function's. An attempt that takes longer than `timeout` fails with a
        TimeoutError and is retried: an async callable is cancelled, a plain one goes on in its thread.
        """
        if retries is not None and (isinstance(retries, bool) or not isinstance(retries, int)):
            raise StepArgumentError("with_", "retries", f"must be a whole number, got {retries!r}")
        if retries is not None and not 0 <= retries <= MAX_RETRIES:
            raise StepArgumentError("with_", "retries", f"must be 0 to {MAX_RETRIES}, got {retries}")
        limit = None if timeout is None else arguments.duration("with_", "timeout", timeout)
        if limit == 0:
            raise StepArgumentError("with_", "timeout", "must be more than 0")
        return CallSteps(StepOptions(retries, limit))

    def sleep(self, id: str, duration: Duration, /) -> Pending[None]:
        """Sleeps for "1h30m", a number of seconds or a timedelta (at most 366 days); survives restarts."""
        arguments.check_id(id)
        execution = current(id)
        until = execution.host.now() + arguments.duration(id, "duration", duration)
        return execution.wait(Op(ops.SLEEP, execution.claim(id), id, {"until": until}), _nothing)

    def sleep_until(self, id: str, when: datetime | str | int, /) -> Pending[None]:
        """Sleeps until a datetime with a zone, an RFC 3339 text, or ms since the epoch; past is no sleep."""
        arguments.check_id(id)
        execution = current(id)
        until = arguments.instant(id, "when", when, execution.host.now())
        return execution.wait(Op(ops.SLEEP, execution.claim(id), id, {"until": until}), _nothing)

    def wait_for_event(
        self, id: str, /, *, event: str, timeout: Duration, match: str | None = None, if_: str | None = None
    ) -> Pending[Event | None]:
        """Waits for an event, None when `timeout` passes first.

        `match="data.order_id"` asks that this path is equal in the awaited event and in the one that started
        the run; `if_` is an expression over both: `event` (started the run) and `async` (is awaited).
        """
        arguments.check_id(id)
        execution = current(id)
        opts: dict[str, Json] = {
            "event": arguments.text(id, "event", event),
            "timeout": arguments.duration(id, "timeout", timeout),
        }
        condition = arguments.condition(id, match, if_)
        if condition is not None:
            opts["if"] = condition
        return execution.wait(Op(ops.WAIT_FOR_EVENT, execution.claim(id), id, opts), _event)

    def wait_for_signal(
        self, id: str, /, *, signal: str, timeout: Duration, on_conflict: Literal["fail", "replace"] = "fail"
    ) -> Pending[Signal | None]:
        """Waits for a signal, None when `timeout` passes first.

        One run at a time waits for a signal name: another one's wait fails its run, or with
        `on_conflict="replace"` takes the place of the first.
        """
        arguments.check_id(id)
        execution = current(id)
        if on_conflict not in ("fail", "replace"):
            raise StepArgumentError(id, "on_conflict", f'must be "fail" or "replace", got {on_conflict!r}')
        opts = {
            "signal": arguments.text(id, "signal", signal),
            "timeout": arguments.duration(id, "timeout", timeout),
            "conflict": on_conflict,
        }
        return execution.wait(Op(ops.WAIT_FOR_SIGNAL, execution.claim(id), id, opts), _signal)

    def send_signal(self, id: str, /, *, signal: str, data: Json = None) -> Pending[bool]:
        """Sends a signal; whether a run was waiting for it."""
        arguments.check_id(id)
        execution = current(id)
        opts = {
            "signal": arguments.text(id, "signal", signal),
            "data": arguments.plain(data, f"step {id!r}: data"),
        }
        return execution.wait(Op(ops.SEND_SIGNAL, execution.claim(id), id, opts), _truth)

    def send_event(self, id: str, events: EventLike | Sequence[EventLike], /) -> Pending[list[str]]:
        """Sends one event or several, once however often the run is replayed; gives their ids."""
        arguments.check_id(id)
        execution = current(id)
        bodies = arguments.events_to_send(id, events, execution.host.now())
        return execution.wait(Op(ops.SEND_EVENT, execution.claim(id), id, {"events": bodies}), _texts)

    @overload
    def invoke(
        self,
        id: str,
        function: Function[R],
        /,
        *,
        data: Mapping[str, Json] | None = None,
        user: Mapping[str, Json] | None = None,
        v: str | None = None,
        timeout: Duration | None = None,
    ) -> Pending[R]: ...
    @overload
    def invoke(
        self,
        id: str,
        function: str,
        /,
        *,
        data: Mapping[str, Json] | None = None,
        user: Mapping[str, Json] | None = None,
        v: str | None = None,
        timeout: Duration | None = None,
    ) -> Pending[Json]: ...
    def invoke(
        self,
        id: str,
        function: Function[Json] | str,
        /,
        *,
        data: Mapping[str, Json] | None = None,
        user: Mapping[str, Json] | None = None,
        v: str | None = None,
        timeout: Duration | None = None,
    ) -> Pending[Json]:
        """Runs another function, by itself or by its slug "app-function", and gives its result.

        Raises `StepError` when that run fails, is cancelled, or does not end within `timeout` (one year).
        """
        arguments.check_id(id)
        execution = current(id)
        known = function if isinstance(function, Function) else None
        opts: dict[str, Json] = {
            "function_id": known.id if known else arguments.text(id, "function", function),
            "data": arguments.json_object(id, "data", {} if data is None else data),
        }
        if user is not None:
            opts["user"] = arguments.json_object(id, "user", user)
        if v is not None:
            opts["v"] = arguments.text(id, "v", v)
        if timeout is not None:
            opts["timeout"] = arguments.duration(id, "timeout", timeout)
        returns = known.returns if known else None
        return execution.wait(
            Op(ops.INVOKE, execution.claim(id), id, opts),
            lambda result: values.decode(result, returns, where=f"step {id!r}"),
        )


step = Steps()
"""The steps: `from perdure import step`."""


def _nothing(_: bytes) -> None:
    return None


_event = msgspec.json.Decoder(Event | None).decode
_signal = msgspec.json.Decoder(Signal | None).decode
_texts = msgspec.json.Decoder(list[str]).decode


def _truth(data: bytes) -> bool:
    return bool(msgspec.json.decode(data))


def _not_callable(id: str, call: object) -> str:
    if not inspect.iscoroutine(call):
        return f"must be a function, got {call!r}"
    name = call.__name__
    call.close()
    return f'must be a function, got what {name}(...) gave: pass it uncalled, step.run("{id}", {name}, ...)'


def _shown(value: object) -> Json:
    try:
        return arguments.plain(value, "input")
    except values.UnserializableError:
        # The arguments are recorded for people to read: a client object among them is no error.
        return repr(value)


def _inference(id: str, adapter: Adapter, body: dict[str, Json], seconds: float) -> FetchRequest:
    url = adapter.url_infer()
    if not url.lower().startswith(("http://", "https://")):
        raise StepArgumentError(id, "adapter", "its url_infer() must begin with http:// or https://")
    return inference_request(url, adapter.format(), adapter.auth_key(), adapter.headers(), body, seconds)


def _request(
    id: str, url: object, method: str, headers: Mapping[str, str] | None, body: Json, seconds: float
) -> FetchRequest:
    if not isinstance(url, str) or not url.lower().startswith(("http://", "https://")):
        raise StepArgumentError(id, "url", f"must begin with http:// or https://, got {url!r}")
    found = dict(headers or {})
    content: bytes | None
    if body is None or isinstance(body, bytes):
        content = body
    elif isinstance(body, str):
        content = body.encode()
    else:
        content = values.encode(body, where=f"step {id!r}: body")
        if not any(name.lower() == "content-type" for name in found):
            found["content-type"] = "application/json"
    return FetchRequest(url, arguments.text(id, "method", method).upper(), found, content, seconds)

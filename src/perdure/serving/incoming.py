"""The call of a server, read (parts 0 and C.1): which run, which events, and what is recorded of its steps.

Invariant: what a memo becomes depends on its shape alone, for a call does not tell the operation of a step. Only an
event that was waited for stands there bare, and only such a one has a name; all else is wrapped as `{"data": ..}` or
`{"error": ..}`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from perdure.model.errors import PerdureError, error_object
from perdure.model.event import Event
from perdure.model.json import Json, decode, encode
from perdure.model.ops import Memo

VERSIONS: Final = frozenset({-1, 1, 2})
"""The versions of calls that are understood; -1 stands for a run whose app has not chosen one yet."""

_NULL: Final = b"null"


class CallError(PerdureError):
    """The body of a call cannot be understood."""


class CallContext(msgspec.Struct, gc=False):
    """What a call says of itself; `fn_id` and `qi_id` are there when steps may be recorded while it goes on."""

    run_id: str
    attempt: int = 0
    max_attempts: int | None = None
    disable_immediate_execution: bool = False
    use_api: bool = False
    fn_id: str = ""
    qi_id: str = ""
    request_id: str = ""
    generation_id: int | None = None


class IncomingCall(msgspec.Struct):
    """A call. `events` and `steps` may be yet to be fetched (`use_api`)."""

    ctx: CallContext
    events: list[Event]
    steps: dict[str, msgspec.Raw]
    version: int
    use_api: bool

    @property
    def memos(self) -> dict[str, Memo]:
        """The recorded outcomes, by step hash."""
        found = {hashed: memo_of(bytes(raw)) for hashed, raw in self.steps.items()}
        return {hashed: memo for hashed, memo in found.items() if memo is not None}


class _Body(msgspec.Struct):
    ctx: CallContext
    event: Json = None
    events: list[Json] | None = None
    steps: dict[str, msgspec.Raw] | None = None
    use_api: bool = False
    version: int = -1


class _Memo(msgspec.Struct):
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    name: Json = None


_body = msgspec.json.Decoder(_Body)
_memo = msgspec.json.Decoder(_Memo)
_steps = msgspec.json.Decoder(dict[str, msgspec.Raw])
_events = msgspec.json.Decoder(list[Json])


def parse_call(data: bytes) -> IncomingCall:
    """Reads the body of a call. Raises `CallError`.

    >>> parse_call(b'{"ctx":{"run_id":"01"},"event":{"name":"a","data":{}},"steps":{}}').events[0].name
    'a'
    """
    try:
        body = _body.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CallError(f"the body of the call cannot be read: {error}") from error
    if body.version not in VERSIONS:
        raise CallError(f"version: requests of version {body.version} are not understood, only 1 and 2")
    use_api = body.use_api or body.ctx.use_api
    given = body.events or ([body.event] if body.event else [])
    events = [] if use_api else [_event(each) for each in given]
    if not events and not use_api:
        raise CallError("event: is required")
    return IncomingCall(body.ctx, events, body.steps or {}, body.version, use_api)


def parse_events(data: bytes) -> list[Event]:
    """The events of a run, as fetched from the server. Raises `CallError`."""
    try:
        found = [_event(each) for each in _events.decode(data)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CallError(f"the events of the run cannot be read: {error}") from error
    if not found:
        raise CallError("the server knows no events of the run")
    return found


def parse_steps(data: bytes) -> dict[str, msgspec.Raw]:
    """The memos of a run, as fetched from the server. Raises `CallError`."""
    try:
        return _steps.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CallError(f"the steps of the run cannot be read: {error}") from error


def memo_of(data: bytes) -> Memo | None:
    """The outcome that a memo tells, None for one that only changes what a step is given.

    >>> memo_of(b'{"data":{"x":1}}'), memo_of(b"null")
    (Memo(data=b'{"x":1}', failed=False), Memo(data=b'null', failed=False))
    >>> memo_of(b'{"error":{"name":"ValueError","message":"no"}}').failed
    True
    """
    if not data.startswith(b"{"):
        return Memo(data)
    try:
        memo = _memo.decode(data)
    except msgspec.ValidationError:
        return Memo(data)
    if isinstance(memo.name, str) and memo.name:
        return Memo(data)
    if isinstance(memo.error, msgspec.Raw) and bytes(memo.error) != _NULL:
        return Memo(encode(error_object(decode(bytes(memo.error)))), failed=True)
    if isinstance(memo.data, msgspec.Raw):
        return Memo(bytes(memo.data))
    return None if isinstance(memo.input, msgspec.Raw) else Memo(data)


def _event(body: Json) -> Event:
    if not isinstance(body, dict):
        raise CallError("event: must be an object")
    # A server adds an empty user to every event; in process there is none.
    given = {key: value for key, value in body.items() if value not in (None, {})}
    given.setdefault("data", {})
    try:
        return msgspec.convert(given, Event)
    except msgspec.ValidationError as error:
        raise CallError(f"event: {error}") from error

"""The request with which a server calls an app (part C.1): its body in canonical JSON, and its headers.

The body is put together from parts that are canonical already (the events once a run, a memo once a step), in the
order of their keys, so that a call costs what is new in it. A body beyond the protocol's limit leaves out what is
large and says `use_api`: the app then fetches it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from perdure.model.event import Event
from perdure.model.jcs import CanonicalJsonError, canonical
from perdure.model.json import Json, encode
from perdure.model.limits import MAX_CALL_BYTES
from perdure.wire import headers as names
from perdure.wire.identity import ACCOUNT_ID, uuid_of

DISCOVERY = "step"
"""The step id of a call that lets the function run from its start, as opposed to one step of it."""
NO_VERSION = -1
"""The version of a call before the app has chosen one."""

_MAX_INLINE = MAX_CALL_BYTES - 1024


class CallContext(msgspec.Struct, gc=False):
    """What a call says of itself. `attempt` is from 0; `immediate` lets the app execute a step that it comes upon."""

    run_id: str
    function_id: str
    request_id: str
    step_id: str
    progress: int
    attempt: int
    max_attempts: int
    immediate: bool
    version: int

    @property
    def job_id(self) -> str:
        """The id of the queue item: the same for every attempt of the same work."""
        text = f"{self.run_id}/{self.step_id}/{self.progress}"
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class _Stack(msgspec.Struct):
    current: int
    stack: list[str]


class _Ctx(msgspec.Struct):
    # In the order of their names: this is canonical JSON.
    attempt: int
    disable_immediate_execution: bool
    env: str
    fn_id: str
    generation_id: int
    job_id: str
    max_attempts: int
    qi_id: str
    request_id: str
    run_id: str
    stack: _Stack
    step_id: str
    use_api: bool


_encoder = msgspec.json.Encoder()


def wire_event(event: Event) -> dict[str, Json]:
    """An event as an app gets it: `user` is always there."""
    body = event.to_json()
    body.setdefault("user", {})
    return body


def canonical_events(events: Iterable[Event]) -> list[bytes]:
    """The events of a run, each in canonical JSON; as it is where it has no such form."""
    return [_canonical(wire_event(event)) for event in events]


def _canonical(body: Json) -> bytes:
    try:
        return canonical(body)
    except CanonicalJsonError:
        return encode(body)


def build_body(
    context: CallContext,
    events: list[bytes],
    memos: Mapping[str, bytes],
    stack: list[str],
    defers: Mapping[str, bool] | None = None,
) -> bytes:
    """The body of a call. `memos` by step hash and `events` are canonical JSON; `stack` lists the decided steps in
    the order in which they were."""
    inline_steps = b"{" + b",".join(b'"' + key.encode() + b'":' + memos[key] for key in sorted(memos)) + b"}"
    all_events = b"[" + b",".join(events) + b"]"
    use_api = len(inline_steps) + len(all_events) + len(events[0]) > _MAX_INLINE
    if use_api:
        inline_steps = b"{}"
        if len(all_events) + len(events[0]) > _MAX_INLINE:
            # SDKs want the one event and a list; the whole is fetched.
            all_events = b"[" + events[0] + b"]" if len(events[0]) * 2 < _MAX_INLINE else b"[]"
    first = events[0] if len(events[0]) < _MAX_INLINE else b"{}"
    job_id = context.job_id
    ctx = _Ctx(
        context.attempt,
        not context.immediate,
        "",
        uuid_of(context.function_id),
        context.attempt + 1,
        job_id,
        context.max_attempts,
        base64.b64encode(f"{job_id}::perdure".encode()).decode(),
        context.request_id,
        context.run_id,
        _Stack(len(stack), stack),
        DISCOVERY,
        use_api,
    )
    kept = canonical({key: {"abortable": abortable} for key, abortable in (defers or {}).items()})
    return b"".join(
        (
            b'{"ctx":', _encoder.encode(ctx), b',"defers":', kept, b',"event":', first, b',"events":', all_events,
            b',"steps":', inline_steps, b',"use_api":', b"true" if use_api else b"false",
            b',"version":', str(context.version).encode(), b"}",
        )
    )  # fmt: skip


def trace_parent(run_id: str, request_id: str) -> str:
    """The trace context of a call (W3C): a run is one trace, whoever takes part in it, and a call a span of it.

    >>> trace_parent("run", "call")
    '00-f0ebc31c61313b7071b2a5cc6be9de19-da2ad283ad3e175f-01'
    """
    trace = hashlib.blake2b(run_id.encode(), digest_size=16).hexdigest()
    return f"00-{trace}-{hashlib.blake2b(request_id.encode(), digest_size=8).hexdigest()}-01"


def call_headers(context: CallContext) -> dict[str, str]:
    """The headers of a call, but for its signature."""
    return {
        "content-type": "application/json",
        "user-agent": "perdure",
        "account-id": ACCOUNT_ID,
        names.RUN_ID: context.run_id,
        names.REQUEST_ID: context.request_id,
        names.JOB_ID: context.job_id,
        names.GENERATION_ID: str(context.attempt + 1),
        names.REQ_VERSION: str(context.version),
        names.STEP_ID: context.step_id,
        "traceparent": trace_parent(context.run_id, context.request_id),
    }

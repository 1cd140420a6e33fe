"""`POST /e/{key}`: events in (part A of the protocol). The hot route, so it is plain ASGI, before any router.

A request is accepted whole or refused whole: a batch with one bad event stores nothing, and the error names the
event by its index. The answer comes after the commit. The key has been judged before: see `perdure.server.auth`.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re

from starlette.types import Receive, Scope

from perdure.model.errors import StoreError
from perdure.model.event import EventError
from perdure.model.ids import MAX_MILLIS
from perdure.model.json import InvalidJsonError, Json, decode, element_sizes
from perdure.model.limits import MAX_EVENT_BYTES, MAX_EVENTS_PER_REQUEST, MAX_REQUEST_BYTES
from perdure.server.backend import Backend
from perdure.server.bodies import MAX_DEPTH, check_depth, header, read_body
from perdure.server.envelope import ApiError
from perdure.server.forms import form_event, is_form
from perdure.server.metrics import Metrics

_log = logging.getLogger("perdure.server")

_NO_EVENTS = "Request body must contain an event object or an array of event objects"
_SEED_HEADER = b"x-inngest-event-id-seed"
_SEED = re.compile(r"(\d{1,15}),([A-Za-z0-9+/]{14}={0,2})")


async def post_events(backend: Backend, metrics: Metrics, scope: Scope, receive: Receive) -> tuple[int, Json]:
    """Stores the events of a request; returns the status and the body of the answer."""
    ids: list[str] = [""]
    count = 1
    try:
        body = await read_body(scope, receive, MAX_REQUEST_BYTES)
        events, batch = parse_events(body, header(scope, b"content-type"))
        count = len(events)
        seed = parse_seed(header(scope, _SEED_HEADER))
        if events:
            with metrics.ingest_seconds.time():
                ids = await _ingest(backend, events, batch, seed)
    except ApiError as error:
        metrics.refused.inc(count)
        return error.status, {"ids": [""], "status": error.status, "error": error.message}
    except StoreError as error:
        _log.error("events could not be stored: %s", error)
        metrics.refused.inc(count)
        return 503, {"ids": [""], "status": 503, "error": "the store cannot take events now; send them again later"}
    metrics.accepted.inc(count)
    return 200, {"ids": ids, "status": 200}


async def _ingest(backend: Backend, events: list[Json], batch: bool, seed: tuple[int, bytes] | None) -> list[str]:
    try:
        return (await backend.ingest(events, seed=seed)).event_ids
    except EventError as error:
        raise ApiError(400, f"events[{error.index}]: {error.reason}" if batch else error.reason) from error


async def read_event(scope: Scope, receive: Receive) -> dict[str, Json]:
    """A body that is one JSON object, under the limits of an event; an empty body is {}. Raises `ApiError`."""
    events, batch = parse_events(await read_body(scope, receive, MAX_EVENT_BYTES), "application/json")
    if batch:
        raise ApiError(400, "request body must be a JSON object")
    event: dict[str, Json] = events[0] if events else {}
    return event


def parse_events(body: bytes, content_type: str) -> tuple[list[Json], bool]:
    """The events of a request body, and whether they came as an array. Raises `ApiError`.

    >>> parse_events(b'{"name": "shop/paid"}', "application/json")
    ([{'name': 'shop/paid'}], False)
    """
    text = body.strip()
    if not text:
        return [], False
    if text[:1] not in b"{[":
        if is_form(content_type):
            if len(body) > MAX_EVENT_BYTES:
                raise ApiError(400, _over_size(len(body)))
            return [form_event(body, content_type)], False
        raise ApiError(400, _not_events(text))
    batch = text[:1] == b"["
    if len(text) > MAX_EVENT_BYTES:
        _check_sizes(text, batch)
    value = _decode(text)
    if text.count(b"{") + text.count(b"[") > MAX_DEPTH:
        check_depth(value, "event", int(batch))
    events = value if batch else [value]
    if len(events) > MAX_EVENTS_PER_REQUEST:
        raise _too_many()
    return events, batch


def parse_seed(value: str) -> tuple[int, bytes] | None:
    """The seed of deterministic ids (A.4): ms and 10 bytes; None where there is none. Raises `ApiError`.

    >>> parse_seed("1700000000000,AAAAAAAAAAAAAA==")[0]
    1700000000000
    """
    if not value:
        return None
    match = _SEED.fullmatch(value.strip())
    if match is not None and int(match[1]) <= MAX_MILLIS:
        encoded = match[2].rstrip("=")
        try:
            entropy = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except binascii.Error:
            entropy = b""
        if len(entropy) == 10:
            return int(match[1]), entropy
    raise ApiError(
        400, "header x-inngest-event-id-seed must be milliseconds, a comma, and 10 bytes in base64, such as "
        "1700000000000,AAAAAAAAAAAAAA=="
    )  # fmt: skip


def _decode(text: bytes) -> Json:
    try:
        return decode(text)
    except InvalidJsonError as error:
        raise ApiError(400, f"request body is not valid JSON: {error}") from error


def _not_events(text: bytes) -> str:
    if text.startswith(b"\xef\xbb\xbf"):
        return "request body begins with a byte order mark; send UTF-8 without one"
    return _NO_EVENTS


def _check_sizes(text: bytes, batch: bool) -> None:
    try:
        sizes = element_sizes(text) if batch else [len(text)]
    except InvalidJsonError as error:
        raise ApiError(400, f"request body is not valid JSON: {error}") from error
    if len(sizes) > MAX_EVENTS_PER_REQUEST:
        raise _too_many()
    for index, size in enumerate(sizes):
        if size > MAX_EVENT_BYTES:
            where = f"events[{index}]: " if batch else ""
            raise ApiError(400, where + _over_size(size))


def _over_size(size: int) -> str:
    return f"Event is over the max size: Max {MAX_EVENT_BYTES} bytes / Size {size} bytes"


def _too_many() -> ApiError:
    return ApiError(400, f"Cannot have more than {MAX_EVENTS_PER_REQUEST} events in a batch")

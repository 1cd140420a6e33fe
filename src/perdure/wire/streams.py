"""How the stream of a run travels: server-sent events, of which apps send whole bodies and subscribers get one each.

An event is `event: <name>`, `data: <JSON on one line>`, and, to subscribers, `id: <offset>`. What apps send may be cut
anywhere; only whole events come out of the parser.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from perdure.model.errors import error_info
from perdure.model.json import Json, encode
from perdure.model.records import RunStatus
from perdure.model.streams import Entry, StreamEvent, StreamKind
from perdure.wire.endpoints import answer_of

_NAMES: Final[dict[StreamKind, bytes]] = {
    "data": b"inngest.stream",
    "commit": b"inngest.commit",
    "rollback": b"inngest.rollback",
    "response": b"inngest.response",
}
_KINDS: Final[dict[bytes, StreamKind]] = {name: kind for kind, name in _NAMES.items()}
_CANCELLED: Final = 410
_FAILED: Final = 500


class MalformedStreamError(ValueError):
    """What an app sent as a stream is none; the text says where."""


METADATA: Final = b"inngest.metadata"
"""The name of the first event of every stream."""


def metadata(run_id: str) -> bytes:
    """The first event of every stream: whose it is."""
    return b"event: " + METADATA + b"\ndata: " + encode({"runId": run_id}) + b"\n\n"


def event_bytes(event: StreamEvent) -> bytes:
    """An event as subscribers get it.

    >>> event_bytes(StreamEvent(3, "data", None, b'"hi"'))
    b'id: 3\\nevent: inngest.stream\\ndata: {"data":"hi"}\\n\\n'
    """
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.offset, _NAMES[event.kind], _data(event))


def entry_bytes(entry: Entry) -> bytes:
    """An event as apps send it.

    >>> entry_bytes(Entry("commit", "86f7"))
    b'event: inngest.commit\\ndata: {"hashedStepId":"86f7"}\\n\\n'
    """
    return b"event: %s\ndata: %s\n\n" % (_NAMES[entry.kind], _data(entry))


def _data(event: StreamEvent | Entry) -> bytes:
    step = b"" if event.step is None else b'"hashedStepId":"' + event.step.encode() + b'"'
    if event.kind == "data":
        body = b'"data":' + event.body if event.body else b""
        return b"{" + body + (b"," if body and step else b"") + step + b"}"
    if event.kind == "response":
        return event.body
    return b"{" + (step or b'"hashedStepId":null') + b"}"


class EventParser:
    """Takes the bytes of a body in any pieces, and gives whole events as (name, data). `most`: bytes of one event.

    >>> parser = EventParser(1000)
    >>> parser.feed(b"event: a\\nda"), parser.feed(b"ta: 1\\n\\nevent: b")
    ([], [(b'a', b'1')])
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._rest = bytearray()
        self._held = b""

    def feed(self, piece: bytes) -> list[tuple[bytes, bytes]]:
        """The events that are complete now. Raises `MalformedStreamError` for one that is larger than allowed."""
        piece = self._held + piece
        # A line may end in CR, LF or both, and both may come apart.
        self._held = b"\r" if piece.endswith(b"\r") else b""
        if b"\r" in piece:
            piece = piece.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        whole = b"\n\n" in piece or (self._rest.endswith(b"\n") and piece.startswith(b"\n"))
        self._rest += piece
        if not whole:
            if len(self._rest) > self._most:
                raise MalformedStreamError(f"an event of the stream has more than {self._most} bytes")
            return []
        *blocks, rest = bytes(self._rest).split(b"\n\n")
        self._rest = bytearray(rest)
        return [event for event in map(_event, blocks) if event is not None]


def _event(block: bytes) -> tuple[bytes, bytes] | None:
    name, data = b"", []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"event":
            name = value.removeprefix(b" ")
        elif field == b"data":
            data.append(value.removeprefix(b" "))
    return (name, b" ".join(data)) if data else None


class _Chunk(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw()
    hashedStepId: str | None = None


class _Response(msgspec.Struct):
    status: Literal["succeeded", "failed"]
    response: dict[str, Json]


_chunk: Final = msgspec.json.Decoder(_Chunk)
_response: Final = msgspec.json.Decoder(_Response)


def entry_of(name: bytes, data: bytes) -> Entry | None:
    """What an app's event says; None for one that says nothing for the log. Raises `MalformedStreamError`."""
    kind = _KINDS.get(name)
    if kind is None:
        return None
    try:
        data.decode()
        if kind == "response":
            _response.decode(data)
            return Entry(kind, None, data)
        found = _chunk.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedStreamError(f"an event {name.decode()!r} of the stream cannot be used: {error}") from error
    step = found.hashedStepId or None
    if step is not None and not (step.isascii() and step.isalnum()):
        raise MalformedStreamError(f"an event {name.decode()!r} of the stream: hashedStepId is not the hash of a step")
    return Entry(kind, step, bytes(found.data) if kind == "data" else b"")


def response_of(status: int, output: bytes) -> bytes:
    """The response of a run that ended with `status` (a `RunStatus`), made of its output.

    What `headers` and `body` cannot hold is told beside them: headers of one name, and bytes that are no text.
    """
    more: dict[str, Json] = {}
    if status == RunStatus.COMPLETED:
        answer = answer_of(output)
        headers = dict(answer.headers)
        if len(headers) != len(answer.headers):
            more["headers_list"] = answer.headers
        try:
            text = answer.body.decode()
        except UnicodeDecodeError:
            text, more["body_b64"] = "", base64.b64encode(answer.body).decode("ascii")
        return _response_bytes("succeeded", answer.status, headers, text, more)
    if status == RunStatus.FAILED:
        return _response_bytes("failed", _FAILED, _JSON, _text(error_info(output).message))
    return _response_bytes("failed", _CANCELLED, _JSON, _text("the run was cancelled"))


_JSON: Final = {"content-type": "application/json"}


def _text(message: str) -> str:
    return encode(message).decode()


def _response_bytes(
    status: str, code: int, headers: dict[str, str], body: str, more: Mapping[str, Json] | None = None
) -> bytes:
    response = {"body": body, "statusCode": code, "headers": headers, **(more or {})}
    return encode({"status": status, "response": response})

"""What is told while a durable endpoint answers, and its final answer.

`parse` makes one of these of a server-sent event. What it does not know is skipped, so that servers may say more; what
it knows but cannot read is an error, because a chunk that is silently missing would falsify the text.
"""

from __future__ import annotations

import base64
import binascii
from typing import TypeAlias

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from perdure.client.errors import StreamError
from perdure.client.sse import ServerSentEvent
from perdure.model.json import InvalidJsonError, Json, decode


class Metadata(msgspec.Struct, frozen=True):
    """Which run answers. Told once for each run, however often the stream was resumed."""

    run_id: str = msgspec.field(name="runId")


class Data(msgspec.Struct, frozen=True):
    """A chunk: any JSON value. `step` is the hash of the id of the step that pushed it, None outside of steps."""

    data: Json = None
    step: str | None = msgspec.field(name="hashedStepId", default=None)


class Commit(msgspec.Struct, frozen=True):
    """A step is finished: its chunks stand. Without a step: all do."""

    step: str | None = msgspec.field(name="hashedStepId", default=None)


class Rollback(msgspec.Struct, frozen=True):
    """An attempt of a step failed: its chunks since the last commit or rollback are to be taken back."""

    step: str | None = msgspec.field(name="hashedStepId", default=None)


class RedirectInfo(msgspec.Struct, frozen=True):
    """Where the stream goes on: `url` is the relay's; `output_url`, if it is known, answers with the result alone."""

    url: str
    run_id: str = msgspec.field(name="runId", default="")
    output_url: str | None = msgspec.field(name="outputUrl", default=None)


class StreamResponse:
    """The final answer: `status_code`, `headers` (case-insensitive, may repeat), `content`.

    `failed`: the run ended with an error that its handler did not answer itself.

    >>> answer = StreamResponse(200, [("Content-Type", "application/json")], b'{"ok": true}')
    >>> answer.headers["content-type"], answer.json(), answer.failed
    ('application/json', {'ok': True}, False)
    """

    def __init__(
        self, status_code: int, headers: list[tuple[str, str]], content: bytes, *, failed: bool = False
    ) -> None:
        self.status_code = status_code
        self.headers = CIMultiDictProxy(CIMultiDict(headers))
        self.content = content
        self.failed = failed

    @property
    def text(self) -> str:
        """The body as text, by the charset of its content type (UTF-8 without one)."""
        _, _, charset = self.headers.get("content-type", "").lower().partition("charset=")
        try:
            return self.content.decode(charset.partition(";")[0].strip(' "') or "utf-8", errors="replace")
        except LookupError:
            return self.content.decode(errors="replace")

    def json(self) -> Json:
        """The body as JSON. Raises `InvalidJsonError` (a `ValueError`) if it is none."""
        return decode(self.content)

    def __repr__(self) -> str:
        return f"<StreamResponse {self.status_code}, {len(self.content)} bytes>"


StreamEvent: TypeAlias = Metadata | Data | Commit | Rollback
"""What a reader of a stream is told."""

_SHAPES: dict[str, type[StreamEvent | RedirectInfo]] = {
    "inngest.metadata": Metadata,
    "inngest.stream": Data,
    "inngest.commit": Commit,
    "inngest.rollback": Rollback,
    "inngest.redirect_info": RedirectInfo,
}
_RESPONSE = "inngest.response"


class _Answer(msgspec.Struct):
    """The optional fields carry what a text and one value a header cannot."""

    status_code: int = msgspec.field(name="statusCode")
    body: str = ""
    headers: dict[str, str] = {}
    headers_list: list[tuple[str, str]] | None = None
    body_b64: str | None = None


class _Terminal(msgspec.Struct):
    status: str
    response: _Answer


def parse(event: ServerSentEvent) -> StreamEvent | RedirectInfo | StreamResponse | None:
    """What an event says; None for one that is unknown, or whose data is no object. Raises `StreamError`.

    >>> parse(ServerSentEvent("inngest.stream", '{"data": 1, "hashedStepId": "86f7"}'))
    Data(data=1, step='86f7')
    """
    shape = _SHAPES.get(event.event)
    if shape is None and event.event != _RESPONSE:
        return None
    try:
        found = decode(event.data)
        if not isinstance(found, dict):
            return None
        if shape is not None:
            return msgspec.convert(found, shape)
        return _response(msgspec.convert(found, _Terminal))
    except InvalidJsonError as error:
        raise StreamError(f"the data of an event {event.event} is not JSON: {error}") from error
    except (msgspec.ValidationError, binascii.Error) as error:
        raise StreamError(f"an event {event.event} has an unknown shape: {error}") from error


def _response(told: _Terminal) -> StreamResponse:
    answer = told.response
    headers = list(answer.headers.items()) if answer.headers_list is None else answer.headers_list
    content = answer.body.encode() if answer.body_b64 is None else base64.b64decode(answer.body_b64, validate=True)
    return StreamResponse(answer.status_code, headers, content, failed=told.status == "failed")

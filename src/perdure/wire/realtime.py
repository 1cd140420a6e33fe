"""What realtime says (part E.5): topics, and the frames in which subscribers hear of messages.

A message belongs to a channel and a topic, and every frame names both, those of a stream's pieces too: SDKs drop a
frame without them. Data that came as JSON goes on as the JSON that came, so that no number changes on its way.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from perdure.model.json import InvalidJsonError, Json, decode, encode
from perdure.wire.identity import ENVIRONMENT_ID

FrameKind = Literal["data", "datastream-start", "chunk", "datastream-end", "sub", "unsub"]

MAX_MESSAGE_BYTES: Final = 512 * 1024
"""The JSON of one message."""
MAX_STREAM_BYTES: Final = 1000 * 1024
"""The text of one stream."""
CHUNK: Final = 1024
"""The characters of one piece of a stream, at most."""
STREAM_TOPIC: Final = "$stream"
"""The topic under which a run's channel carries the bytes of its response."""


class Topic(msgspec.Struct, frozen=True, omit_defaults=True):
    """A topic of a channel, as a token carries it."""

    channel: str
    name: str
    kind: Literal["run"] = "run"
    env_id: str = ENVIRONMENT_ID
    run_id: str | None = None

    def claim(self) -> dict[str, Json]:
        """The topic with all its fields, for a token."""
        told: dict[str, Json] = {
            "kind": self.kind,
            "env_id": self.env_id,
            "channel": self.channel,
            "name": self.name,
        }
        return told if self.run_id is None else {**told, "run_id": self.run_id}


class Frame(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a subscriber is sent. `data` and `metadata` are JSON, on one line."""

    kind: FrameKind
    data: msgspec.Raw
    created_at: str | None = None
    channel: str | None = None
    env_id: str | None = None
    topic: str | None = None
    run_id: str | None = None
    stream_id: str | None = None
    metadata: msgspec.Raw | None = None

    def encode(self) -> bytes:
        return encode(self)


class Request(msgspec.Struct, frozen=True):
    """What a subscriber asks for over its connection: kinds besides "sub" and "unsub" ask for nothing."""

    kind: str
    data: Json = None


class TopicError(ValueError):
    """A list of topics that cannot be used; the text says which of them, and why."""


def parse_topics(value: Json, most: int) -> list[Topic]:
    """The topics of a request: `[{"channel": "c", "name": "topic", "kind": "run"}]`. Raises `TopicError`."""
    if not isinstance(value, list):
        raise TopicError("must provide a list of topics")
    if len(value) > most:
        raise TopicError(f"{len(value)} topics are too many, at most {most} are allowed")
    return [_parse_topic(topic, f"topics[{index}]") for index, topic in enumerate(value)]


def _parse_topic(value: Json, where: str) -> Topic:
    if not isinstance(value, dict):
        raise TopicError(f'{where} must be an object such as {{"channel": "orders", "name": "status"}}')
    for field in ("channel", "name"):
        if not isinstance(value.get(field), str) or not value[field]:
            raise TopicError(f"{where}.{field} must be a string that is not empty")
    kind, run_id = value.get("kind") or "run", value.get("run_id") or None
    if kind != "run":
        raise TopicError(f'{where}.kind must be "run": topics of other kinds carry nothing here')
    if run_id is not None and not isinstance(run_id, str):
        raise TopicError(f"{where}.run_id must be a string")
    return Topic(value["channel"], value["name"], run_id=run_id)


def parse_request(text: str) -> Request | None:
    """What a subscriber's frame asks for; None for what is no frame."""
    try:
        value = decode(text)
    except InvalidJsonError:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        return None
    return Request(value["kind"], value.get("data"))


def one_line(body: bytes) -> msgspec.Raw:
    """JSON as it came, without line breaks; raises `InvalidJsonError`.

    >>> bytes(one_line(b'{"total":\\n 1.50}'))
    b'{"total":  1.50}'
    """
    decode(body)
    # Strings in JSON hold no raw line breaks: these are white space, and would end a line of an event stream.
    return msgspec.Raw(body.replace(b"\r", b" ").replace(b"\n", b" "))


def text_or_json(body: bytes) -> msgspec.Raw:
    """The JSON of a published body. What is no JSON is a text, which SDKs send as it is.

    Raises `UnicodeDecodeError` when it is neither.

    >>> bytes(text_or_json(b"[1]")), bytes(text_or_json(b"half a sen"))
    (b'[1]', b'"half a sen"')
    """
    try:
        return one_line(body)
    except InvalidJsonError:
        return msgspec.Raw(encode(body.decode()))

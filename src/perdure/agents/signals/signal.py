"""A signal: what it says, how it is read from a request, stored in a thread, told to readers and shown to a model.

The model sees a user's plain signal as the user's words. Any other is an XML element around its text, named by its
tag, with its attributes: whatever the text holds is escaped, so no signal can pass for another or for the user.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from perdure.agents.chunks import Chunk
from perdure.agents.errors import InvalidOptionError
from perdure.agents.messages import FilePart, Message, Part, TextPart
from perdure.model.json import Json

USER: Final = "user"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9._-]*")
_TYPES: Final = {"user-message": "user", "system-reminder": "reactive"}
_TAGS: Final = {"reactive": "system-reminder"}


class Signal(msgspec.Struct, frozen=True):
    """One signal. `contents` is a text, or parts (`text`, `file`) as JSON; times are ms.

    `transient` ones are told and shown to the model, and not kept in the thread.
    """

    id: str
    type: str
    tag_name: str
    contents: str | list[dict[str, Json]]
    created_at: int
    accepted_at: int
    attributes: dict[str, Json] = {}
    metadata: dict[str, Json] = {}
    provider_options: dict[str, Json] = {}
    transient: bool = False

    @property
    def is_user(self) -> bool:
        """Whether it is a message of the user."""
        return self.type == USER

    def to_json(self) -> dict[str, Json]:
        """As it is answered, queued and told."""
        plain: dict[str, Json] = {
            "id": self.id,
            "type": self.type,
            "tagName": self.tag_name,
            "contents": self.contents,
            "createdAt": _iso(self.created_at),
            "acceptedAt": _iso(self.accepted_at),
        }
        for key, value in (
            ("attributes", self.attributes),
            ("metadata", self.metadata),
            ("providerOptions", self.provider_options),
            ("transient", self.transient),
        ):
            if value:
                plain[key] = value
        return plain

    def with_attributes(self, attributes: Json) -> Signal:
        """With attributes added. Raises `InvalidOptionError`."""
        if not attributes:
            return self
        return msgspec.structs.replace(self, attributes={**self.attributes, **_attributes(attributes)})


def parse_signal(body: Json, *, ids: Callable[[], str], now: int) -> Signal:
    """A signal of a request, or one that was kept (`Signal.to_json`). Raises `InvalidOptionError` naming the field.

    Any type is taken: its name is its tag, unless `tagName` is given.

    >>> parse_signal({"type": "system-reminder", "contents": "Hurry."}, ids=lambda: "s", now=0).tag_name
    'system-reminder'
    """
    if not isinstance(body, dict):
        raise InvalidOptionError("signal: must be an object")
    kind = body.get("type")
    if not isinstance(kind, str) or not kind:
        raise InvalidOptionError('signal.type: must be a text, as "user-message"')
    type_ = _TYPES.get(kind, kind)
    tag = body.get("tagName") or ("user" if type_ == USER else _TAGS.get(type_, type_))
    if not isinstance(tag, str) or not _NAME.fullmatch(tag):
        raise InvalidOptionError(f"Invalid signal XML tag name: {tag}")
    signal_id = body.get("id")
    return Signal(
        id=signal_id if isinstance(signal_id, str) and signal_id else ids(),
        type=type_,
        tag_name=tag,
        contents=_contents(body.get("contents"), "signal.contents"),
        created_at=_millis(body.get("createdAt"), now, "signal.createdAt"),
        accepted_at=_millis(body.get("acceptedAt"), now, "signal.acceptedAt"),
        attributes=_attributes(body.get("attributes") or {}),
        metadata=_object(body.get("metadata"), "signal.metadata"),
        provider_options=_object(body.get("providerOptions"), "signal.providerOptions"),
        transient=body.get("transient") is True,
    )


def parse_message(body: Json, *, ids: Callable[[], str], now: int) -> Signal:
    """A user's message as a signal: a text, parts, or `{contents, attributes?, metadata?, providerOptions?}`."""
    given = body if isinstance(body, dict) else {"contents": body}
    return parse_signal({**given, "type": "user-message", "tagName": None}, ids=ids, now=now)


def _contents(value: Json, where: str) -> str | list[dict[str, Json]]:
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise InvalidOptionError(f"{where}: must be a text, or a list of parts")
    for index, part in enumerate(value):
        kind = part.get("type") if isinstance(part, dict) else None
        fields = {"text": ("text",), "file": ("data", "mediaType")}.get(kind or "")
        if fields is None:
            raise InvalidOptionError(f'{where}[{index}]: must be a part of type "text" or "file"')
        for field in fields:
            if not isinstance(part.get(field), str):
                raise InvalidOptionError(f"{where}[{index}].{field}: must be a text")
    return value


def _attributes(value: Json) -> dict[str, Json]:
    given = _object(value, "signal.attributes")
    for name, each in given.items():
        if not _NAME.fullmatch(name):
            raise InvalidOptionError(f"Invalid signal XML attribute name: {name}")
        if each is not None and not isinstance(each, str | int | float | bool):
            raise InvalidOptionError(f"signal.attributes.{name}: must be a text, a number, true, false or null")
    return given


def _object(value: Json, where: str) -> dict[str, Json]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidOptionError(f"{where}: must be an object")
    return value


def _millis(value: Json, default: int, where: str) -> int:
    if value is None:
        return default
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        at = datetime.fromisoformat(str(value))
        return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise InvalidOptionError(f"{where}: must be a date and time, as 2026-01-31T12:00:00Z") from None


def _iso(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parts_of(signal: Signal) -> list[Part]:
    """What it says, as it is kept: not rendered."""
    if isinstance(signal.contents, str):
        return [TextPart(signal.contents)]
    return [
        TextPart(part["text"])
        if part["type"] == "text"
        else FilePart(part["data"], part["mediaType"], part.get("filename"))
        for part in signal.contents
    ]


def render(signal: Signal) -> list[Part]:
    """What the model sees of it, as a turn of the user.

    >>> given = {"type": "alert", "contents": "5 < 6", "attributes": {"level": 2, "read": False, "by": None}}
    >>> render(parse_signal(given, ids=lambda: "s", now=0))[0].text
    '<alert level="2" read="false">5 &lt; 6</alert>'
    """
    parts = parts_of(signal)
    if signal.is_user and not any(value is not None for value in signal.attributes.values()):
        return parts
    text = "\n".join(part.text for part in parts if isinstance(part, TextPart))
    attributes = "".join(
        f' {name}="{_escaped(_shown(value), quotes=True)}"'
        for name, value in signal.attributes.items()
        if value is not None
    )
    element = f"<{signal.tag_name}{attributes}>{_escaped(text)}</{signal.tag_name}>"
    return [TextPart(element), *(part for part in parts if not isinstance(part, TextPart))]


def _shown(value: Json) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _escaped(text: str, *, quotes: bool = False) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace('"', "&quot;") if quotes else escaped


def signal_message(signal: Signal, thread_id: str | None, resource_id: str | None) -> Message:
    """As it is kept in a thread; its id is the signal's, so keeping it again changes nothing."""
    kept = {key: value for key, value in signal.to_json().items() if key != "contents"}
    return Message(
        id=signal.id,
        role="signal",
        parts=parts_of(signal),
        created_at=signal.created_at,
        thread_id=thread_id,
        resource_id=resource_id,
        type=signal.tag_name,
        metadata={"signal": kept},
    )


def signal_of(message: Message) -> Signal | None:
    """The signal that a message keeps; None where it keeps none."""
    kept = message.metadata.get("signal")
    if message.role != "signal" or not isinstance(kept, dict):
        return None
    contents: list[dict[str, Json]] = []
    for part in message.parts:
        if isinstance(part, TextPart):
            contents.append({"type": "text", "text": part.text})
        elif isinstance(part, FilePart):
            file = {"type": "file", "data": part.data, "mediaType": part.mime_type}
            contents.append(file | ({"filename": part.filename} if part.filename else {}))
    only = contents[0]["text"] if len(contents) == 1 and contents[0]["type"] == "text" else contents or ""
    return parse_signal({**kept, "contents": only}, ids=lambda: message.id, now=message.created_at)


def is_transient(message: Message) -> bool:
    """Whether a message is a signal that is not to be kept."""
    kept = message.metadata.get("signal")
    return isinstance(kept, dict) and kept.get("transient") is True


def as_prompt(message: Message) -> Message:
    """A message as the model sees it: what keeps a signal becomes a turn of the user, rendered; others stay."""
    signal = signal_of(message)
    return message if signal is None else msgspec.structs.replace(message, role="user", parts=render(signal))


def signal_chunk(signal: Signal, run_id: str) -> Chunk:
    """What readers of a run are told of it."""
    kind = "data-user-message" if signal.is_user else "data-signal"
    data = {key: value for key, value in signal.to_json().items() if key != "transient"}
    return Chunk({"type": kind, "data": data, "transient": True, "runId": run_id})

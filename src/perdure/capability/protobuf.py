"""Protocol Buffers: answers in their binary encoding as JSON, by a `.proto` file of the document.

Read are messages, enums, nested ones, `oneof`, `map` and packed fields of proto2 and proto3. Fields have the names of
the file; what is not set is left out, what the file does not know is passed over. Bytes are in base64.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from perdure.capability.formats import FormatError
from perdure.model.json import Json

_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|[A-Za-z_][\w.]*|\.[A-Za-z_][\w.]*|-?\d[\w.+-]*|\S')
_COMMENT: Final = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_LABELS: Final = ("repeated", "optional", "required")
_MAX_DEPTH: Final = 100
_FIXED: Final = {
    "double": ("<d", 8), "float": ("<f", 4), "fixed64": ("<Q", 8), "fixed32": ("<I", 4), "sfixed64": ("<q", 8),
    "sfixed32": ("<i", 4),
}  # fmt: skip
_VARINTS: Final = ("int32", "int64", "uint32", "uint64", "sint32", "sint64", "bool")


class ProtoError(ValueError):
    """A `.proto` file that cannot be read."""


class Field(msgspec.Struct):
    """A field of a message. One that is a map has the type of its values as `type`, and a `key`."""

    name: str
    type: str
    repeated: bool = False
    key: str = ""


class Message(msgspec.Struct):
    """A message: its fields by number."""

    name: str
    fields: dict[int, Field] = {}


def reader(text: str, name: str = "") -> Callable[[bytes], Json]:
    """What reads messages of a file: of this name, or else the first one. Raises `ProtoError`.

    >>> reader("message Ship { string name = 1; repeated int32 crew = 2; }")(bytes([10, 1, 97, 18, 2, 1, 2]))
    {'name': 'a', 'crew': [1, 2]}
    """
    file = _File(text)
    if not file.messages:
        raise ProtoError("the file has no message")
    if name and name not in file.messages:
        raise ProtoError(f"the file has no message {name}; it has {', '.join(file.messages)}")
    wanted = file.messages[name] if name else next(iter(file.messages.values()))
    return lambda body: _message(body, wanted, file, 0)


class _File:
    """What a file declares, by names with those of what is around them."""

    def __init__(self, text: str) -> None:
        self.messages: dict[str, Message] = {}
        self.enums: dict[str, dict[int, str]] = {}
        self._tokens = _TOKEN.findall(_COMMENT.sub(" ", text))
        self._at = 0
        while self._at < len(self._tokens):
            self._declaration("")
        for message in self.messages.values():
            for field in message.fields.values():
                field.type = self._resolved(field.type, message.name)

    def _next(self) -> str:
        if self._at >= len(self._tokens):
            raise ProtoError("the file ends too early")
        self._at += 1
        found: str = self._tokens[self._at - 1]
        return found

    def _expect(self, token: str) -> None:
        found = self._next()
        if found != token:
            raise ProtoError(f"{token} is expected, not {found}")

    def _declaration(self, scope: str) -> None:
        word = self._next()
        if word == "message":
            self._message(scope)
        elif word == "enum":
            self._enum(scope)
        elif word in ("import", "group"):
            raise ProtoError(f"files with {word} are not read")
        elif word != ";":
            self._skip()

    def _skip(self) -> None:
        """Passes over a statement, or a block."""
        depth = 0
        while True:
            token = self._next()
            depth += (token == "{") - (token == "}")
            if (token == ";" and depth == 0) or (token == "}" and depth == 0):
                return

    def _message(self, scope: str) -> None:
        name = f"{scope}.{self._next()}".lstrip(".")
        message = self.messages[name] = Message(name, {})
        self._expect("{")
        while (word := self._next()) != "}":
            if word in ("message", "enum"):
                self._at -= 1
                self._declaration(name)
            elif word == "oneof":
                self._next()
                self._expect("{")
                while (inner := self._next()) != "}":
                    self._field(message, inner)
            elif word in ("option", "reserved", "extensions", "extend"):
                self._skip()
            elif word != ";":
                self._field(message, word)

    def _field(self, message: Message, word: str) -> None:
        repeated, key = word == "repeated", ""
        type_ = self._next() if word in _LABELS else word
        if type_ == "option":
            return self._skip()
        if type_ == "group":
            raise ProtoError("files with group are not read")
        if type_ == "map":
            self._expect("<")
            key = self._next()
            self._expect(",")
            type_ = self._next()
            self._expect(">")
        name = self._next()
        self._expect("=")
        number = self._next()
        if not number.isdecimal():
            raise ProtoError(f"{number} is no number of a field")
        message.fields[int(number)] = Field(name, type_, repeated, key)
        self._skip()

    def _enum(self, scope: str) -> None:
        name = f"{scope}.{self._next()}".lstrip(".")
        values = self.enums[name] = {}
        self._expect("{")
        while (word := self._next()) != "}":
            if word in ("option", "reserved"):
                self._skip()
            elif word != ";":
                self._expect("=")
                values[int(self._next(), 0)] = word
                self._skip()

    def _resolved(self, type_: str, scope: str) -> str:
        """The full name of a type, as it is seen from within a message."""
        if type_ in _FIXED or type_ in _VARINTS or type_ in ("string", "bytes"):
            return type_
        wanted = type_.lstrip(".")
        while True:
            full = f"{scope}.{wanted}".lstrip(".")
            if full in self.messages or full in self.enums:
                return full
            if not scope:
                break
            scope = scope.rpartition(".")[0]
        # It may be written with the name of the package.
        last = wanted.partition(".")[2]
        if last:
            return self._resolved(last, "")
        raise ProtoError(f"the file has no type {type_}")


def _message(data: bytes, message: Message, file: _File, depth: int) -> dict[str, Json]:
    if depth > _MAX_DEPTH:
        raise FormatError("Protocol Buffers that nest too deep")
    found: dict[str, Json] = {}
    for number, wire, raw in _entries(data):
        field = message.fields.get(number)
        if field is None:
            continue
        if field.key:
            entry = _message(_bytes(raw, field), _entry(field), file, depth + 1)
            found.setdefault(field.name, {})[_key(entry.get("key", ""))] = entry.get("value")
        elif field.repeated:
            values = found.setdefault(field.name, [])
            values += list(_packed(raw, field, file)) if wire == 2 and _packs(field, file) else [
                _value(raw, field, file, depth)
            ]  # fmt: skip
        else:
            found[field.name] = _value(raw, field, file, depth)
    return found


def _entry(field: Field) -> Message:
    return Message(field.name, {1: Field("key", field.key), 2: Field("value", field.type)})


def _key(value: Json) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _packs(field: Field, file: _File) -> bool:
    return field.type in _FIXED or field.type in _VARINTS or field.type in file.enums


def _bytes(raw: bytes | int, field: Field) -> bytes:
    if isinstance(raw, int):
        raise FormatError(f"not this message: {field.name} is of another type")
    return raw


def _value(raw: bytes | int, field: Field, file: _File, depth: int) -> Json:
    if field.type in _FIXED:
        form, size = _FIXED[field.type]
        content = _bytes(raw, field)
        if len(content) != size:
            raise FormatError(f"not this message: {field.name} is of another type")
        return struct.unpack(form, content)[0]
    if field.type in _VARINTS or field.type in file.enums:
        if not isinstance(raw, int):
            raise FormatError(f"not this message: {field.name} is of another type")
        return _number(raw, field, file)
    content = _bytes(raw, field)
    if field.type == "bytes":
        return base64.b64encode(content).decode()
    if field.type != "string":
        return _message(content, file.messages[field.type], file, depth + 1)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"not this message: {field.name} is not UTF-8") from error


def _number(raw: int, field: Field, file: _File) -> Json:
    if field.type == "bool":
        return raw != 0
    if field.type in ("sint32", "sint64"):
        return (raw >> 1) ^ -(raw & 1)
    if field.type not in ("uint32", "uint64") and raw >= 1 << 63:
        raw -= 1 << 64
    return file.enums[field.type].get(raw, raw) if field.type in file.enums else raw


def _packed(raw: bytes | int, field: Field, file: _File) -> Iterator[Json]:
    content, at = _bytes(raw, field), 0
    while at < len(content):
        if field.type in _FIXED:
            size = _FIXED[field.type][1]
            yield _value(content[at : at + size], field, file, 0)
            at += size
        else:
            number, at = _varint(content, at)
            yield _number(number, field, file)


def _entries(data: bytes) -> Iterator[tuple[int, int, bytes | int]]:
    """The number, wire type and content of each field."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire, size = tag & 7, 0
        if wire == 0:
            number, at = _varint(data, at)
            yield tag >> 3, wire, number
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise FormatError("no Protocol Buffers: a field is of a type that there is not")
        if at + size > len(data):
            raise FormatError("no Protocol Buffers: it ends too early")
        yield tag >> 3, wire, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    found = shift = 0
    while at < len(data) and shift < 70:
        found |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return found & 0xFFFFFFFFFFFFFFFF, at
    raise FormatError("no Protocol Buffers: it ends too early")

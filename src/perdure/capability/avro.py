"""Avro: answers in its binary encoding as JSON, by the schema in them or in a file of the document.

Read are object container files (with the codecs `null` and `deflate`), single objects, and bare values. Bytes and
fixed values become text of one character a byte, as Avro's own JSON encoding has it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Final, TypeAlias

from perdure.capability.formats import FormatError
from perdure.model.json import InvalidJsonError, Json, decode

_CONTAINER: Final = b"Obj\x01"
_SINGLE: Final = b"\xc3\x01"
_MAX_INFLATED: Final = 64 * 1024 * 1024
_MAX_DEPTH: Final = 200
_PRIMITIVES: Final = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")


class SchemaError(ValueError):
    """A schema that is none."""


def reader(schema: str) -> Callable[[bytes], Json]:
    """What reads answers; "" for a schema means that every answer has its own. Raises `SchemaError`.

    >>> reader('{"type": "array", "items": "string"}')(bytes([4, 2, 97, 4, 98, 99, 0]))
    ['a', 'bc']
    """
    own = _Schema(schema) if schema else None

    def read(body: bytes) -> Json:
        if body.startswith(_CONTAINER):
            return _container(body)
        if own is None:
            raise FormatError("no Avro container file, and outputSchema names no schema for anything else")
        data = _Data(body[10:] if body.startswith(_SINGLE) else body)
        found = data.value(own.root, own)
        if data.left:
            raise FormatError(f"not Avro of this schema: {data.left} bytes are left")
        return found

    return read


class _Schema:
    """A schema with its named types."""

    def __init__(self, text: str) -> None:
        try:
            self.root: Json = decode(text.encode())
        except InvalidJsonError as error:
            raise SchemaError(f"the Avro schema is not JSON: {error}") from error
        self.named: dict[str, Json] = {}
        self._collect(self.root, "", 0)

    def _collect(self, type_: Json, namespace: str, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise SchemaError("the Avro schema nests too deep")
        if isinstance(type_, list):
            for each in type_:
                self._collect(each, namespace, depth + 1)
        elif isinstance(type_, str):
            if type_ not in _PRIMITIVES and not {type_, f"{namespace}.{type_}"} & self.named.keys():
                raise SchemaError(f"the Avro schema has no type {type_}")
        elif isinstance(type_, dict):
            self._collect_complex(type_, namespace, depth)
        else:
            raise SchemaError("the Avro schema has something that is no type")

    def _collect_complex(self, type_: dict[str, Json], namespace: str, depth: int) -> None:
        kind = type_.get("type")
        if kind in ("record", "error", "enum", "fixed"):
            name, space = str(type_.get("name", "")), str(type_.get("namespace", namespace))
            full = name if "." in name or not space else f"{space}.{name}"
            space = full.rpartition(".")[0]
            self.named[full] = self.named[full.rpartition(".")[2]] = type_
            if kind in ("record", "error"):
                for field in _listed(type_, "fields"):
                    if not isinstance(field, dict) or "type" not in field or "name" not in field:
                        raise SchemaError(f"the record {name} of the Avro schema has a field without name or type")
                    self._collect(field["type"], space, depth + 1)
            elif kind == "enum":
                _listed(type_, "symbols")
            elif not isinstance(type_.get("size"), int):
                raise SchemaError(f"the fixed type {name} of the Avro schema has no size")
        elif kind in ("array", "map"):
            self._collect(type_.get("items" if kind == "array" else "values"), namespace, depth + 1)
        else:
            self._collect(kind, namespace, depth + 1)


def _listed(type_: dict[str, Json], key: str) -> list[Json]:
    found = type_.get(key)
    if not isinstance(found, list):
        raise SchemaError(f"the type {type_.get('name')} of the Avro schema has no {key}")
    return found


class _Data:
    """Bytes that are read from their beginning. Methods raise `FormatError`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._depth = 0

    @property
    def left(self) -> int:
        """How many bytes are not read."""
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        """The next bytes."""
        if not 0 <= size <= self.left:
            raise FormatError("not Avro of this schema: it ends too early")
        self._at += size
        return self._data[self._at - size : self._at]

    def long(self) -> int:
        """The next whole number."""
        found = shift = 0
        while True:
            byte = self.take(1)[0]
            found |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return (found >> 1) ^ -(found & 1)
            if shift > 63:
                raise FormatError("not Avro of this schema: a number is too long")

    def value(self, type_: Json, schema: _Schema) -> Json:
        """The next value of a type."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise FormatError("Avro that nests too deep")
        try:
            if isinstance(type_, list):
                return self.value(_at(type_, self.long()), schema)
            kind = type_ if isinstance(type_, str) else type_["type"]
            if isinstance(kind, str) and kind in _READ:
                return _READ[kind](self)
            if isinstance(type_, dict) and isinstance(kind, str) and kind in _COMPLEX:
                return _COMPLEX[kind](self, type_, schema)
            if isinstance(kind, str):
                named = schema.named.get(kind) or schema.named.get(kind.rpartition(".")[2])
                return self.value(named, schema)
            return self.value(kind, schema)
        finally:
            self._depth -= 1

    def text(self) -> str:
        """The next text."""
        try:
            return self.take(self.long()).decode()
        except UnicodeDecodeError as error:
            raise FormatError("not Avro of this schema: a text is not UTF-8") from error

    def blocks(self, one: Callable[[], None]) -> None:
        """Reads the items of an array or map, which come in blocks."""
        while (count := self.long()) != 0:
            if count < 0:
                count = -count
                self.long()
            if count > max(self.left, 1):
                raise FormatError("not Avro of this schema: a block is longer than what there is")
            for _ in range(count):
                one()


def _at(items: list[Json], place: int) -> Json:
    if not 0 <= place < len(items):
        raise FormatError("not Avro of this schema: there is no such alternative")
    return items[place]


def _record(data: _Data, type_: Json, schema: _Schema) -> Json:
    return {field["name"]: data.value(field["type"], schema) for field in type_["fields"]}


def _array(data: _Data, type_: Json, schema: _Schema) -> Json:
    found: list[Json] = []
    data.blocks(lambda: found.append(data.value(type_["items"], schema)))
    return found


def _map(data: _Data, type_: Json, schema: _Schema) -> Json:
    found: dict[str, Json] = {}
    data.blocks(lambda: found.__setitem__(data.text(), data.value(type_["values"], schema)))
    return found


_Read: TypeAlias = Callable[[_Data], Json]
_READ: Final[dict[str, _Read]] = {
    "null": lambda data: None,
    "boolean": lambda data: data.take(1) != b"\0",
    "int": _Data.long,
    "long": _Data.long,
    "float": lambda data: struct.unpack("<f", data.take(4))[0],
    "double": lambda data: struct.unpack("<d", data.take(8))[0],
    "bytes": lambda data: data.take(data.long()).decode("latin-1"),
    "string": _Data.text,
}
_COMPLEX: Final[dict[str, Callable[[_Data, Json, _Schema], Json]]] = {
    "record": _record,
    "error": _record,
    "array": _array,
    "map": _map,
    "enum": lambda data, type_, schema: _at(type_["symbols"], data.long()),
    "fixed": lambda data, type_, schema: data.take(type_["size"]).decode("latin-1"),
}


def _container(body: bytes) -> Json:
    """The values of a container file, as a list."""
    data = _Data(body[len(_CONTAINER) :])
    meta: dict[str, bytes] = {}
    data.blocks(lambda: meta.__setitem__(data.text(), data.take(data.long())))
    mark, codec = data.take(16), meta.get("avro.codec", b"null")
    if codec not in (b"null", b"deflate"):
        raise FormatError(f"Avro with the codec {codec.decode('latin-1')} is not read")
    try:
        schema = _Schema(meta.get("avro.schema", b"").decode())
    except (SchemaError, UnicodeDecodeError) as error:
        raise FormatError(f"an Avro container file without a schema: {error}") from error
    found: list[Json] = []
    while data.left:
        count, block = data.long(), data.take(data.long())
        inner = _Data(block if codec == b"null" else _inflated(block))
        found += [inner.value(schema.root, schema) for _ in range(count if inner.left else 0)]
        if inner.left or data.take(16) != mark:
            raise FormatError("a damaged Avro container file")
    return found


def _inflated(block: bytes) -> bytes:
    inflating = zlib.decompressobj(-15)
    try:
        found = inflating.decompress(block, _MAX_INFLATED)
    except zlib.error as error:
        raise FormatError("a damaged Avro container file") from error
    if inflating.unconsumed_tail:
        raise FormatError("an Avro container file that is too large")
    return found

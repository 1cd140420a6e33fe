"""Messages as protobuf: descriptors are built from the declarations of the Structs, once, at the first use.

Imported when the first message is read or written: the library takes as long to load as all the rest of perdure, and
only connected workers need it.
"""

from __future__ import annotations

import types
from functools import cache
from typing import get_args, get_origin, get_type_hints

import msgspec
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from perdure.wire.record import M, MessageError, Record

_PACKAGE = "perdure.connect"


def encode(record: Record) -> bytes:
    """The bytes of a message."""
    return _to_message(record).SerializeToString()


def decode(kind: type[M], data: bytes) -> M:
    """Reads a message; raises `MessageError`."""
    message = _message_class(kind)()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise MessageError(f"not a message of the kind {kind.__name__}: {error}") from error
    return _to_record(kind, message)


class _Field(msgspec.Struct, frozen=True):
    """A field as its annotation declares it. `nested` is the Struct of a message in a message."""

    name: str
    number: int
    scalar: int
    repeated: bool
    optional: bool
    nested: type[Record] | None


# Numbers of either sign and every width, and enums, are the same varints on the wire.
_SCALARS: dict[type, int] = {
    str: FieldDescriptorProto.TYPE_STRING,
    bytes: FieldDescriptorProto.TYPE_BYTES,
    bool: FieldDescriptorProto.TYPE_BOOL,
    int: FieldDescriptorProto.TYPE_INT64,
}


@cache
def _fields(kind: type[Record]) -> tuple[_Field, ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple(_field(name, *get_args(hints[name])[:2]) for name in kind.__struct_fields__)


def _field(name: str, declared: type, number: int) -> _Field:
    repeated, optional = get_origin(declared) is list, isinstance(declared, types.UnionType)
    inner: type = get_args(declared)[0] if repeated or optional else declared
    nested = inner if issubclass(inner, Record) else None
    scalar = FieldDescriptorProto.TYPE_MESSAGE if nested else _SCALARS[inner]
    return _Field(name, number, scalar, repeated, optional, nested)


def _describe(kind: type[Record], described: DescriptorProto) -> None:
    described.name = kind.__name__
    for field in _fields(kind):
        one = described.field.add(name=field.name, number=field.number)
        one.type = FieldDescriptorProto.Type.ValueType(field.scalar)
        one.label = FieldDescriptorProto.LABEL_REPEATED if field.repeated else FieldDescriptorProto.LABEL_OPTIONAL
        if field.nested is not None:
            one.type_name = f".{_PACKAGE}.{field.nested.__name__}"
        elif field.optional:
            # How proto3 remembers whether a scalar was there: a oneof with a single member.
            one.proto3_optional = True
            one.oneof_index = len(described.oneof_decl)
            described.oneof_decl.add(name=f"_{field.name}")


@cache
def _describe_all() -> DescriptorPool:
    file = FileDescriptorProto(name="perdure/connect.proto", package=_PACKAGE, syntax="proto3")
    for kind in Record.__subclasses__():
        _describe(kind, file.message_type.add())
    # A pool of its own: SDKs in the same process describe messages of the same protocol in the common one.
    pool = DescriptorPool()
    pool.Add(file)
    return pool


@cache
def _message_class(kind: type[Record]) -> type[Message]:
    return GetMessageClass(_describe_all().FindMessageTypeByName(f"{_PACKAGE}.{kind.__name__}"))


def _to_message(record: Record) -> Message:
    message = _message_class(type(record))()
    for field in _fields(type(record)):
        value = getattr(record, field.name)
        if field.repeated:
            getattr(message, field.name).extend([_to_message(one) for one in value] if field.nested else value)
        elif value is not None and field.nested is not None:
            getattr(message, field.name).CopyFrom(_to_message(value))
        elif value is not None:
            setattr(message, field.name, value)
    return message


def _to_record(kind: type[M], message: Message) -> M:
    values: list[object] = []
    for field in _fields(kind):
        value = getattr(message, field.name)
        if field.repeated:
            nested = field.nested
            values.append([_to_record(nested, one) for one in value] if nested else list(value))
        elif field.optional and not message.HasField(field.name):
            values.append(None)
        else:
            values.append(_to_record(field.nested, value) if field.nested else value)
    return kind(*values)

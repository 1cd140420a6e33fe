"""The messages of connect, by which workers that keep a WebSocket open get their calls (part E.6), as protobuf.

Each message is a Struct whose fields are annotated with their protobuf numbers; the descriptors are built from that
at import, so that this declaration is the only one. A field that may be missing is `T | None`; any other one that is
missing has its default, as proto3 has it. Fields and messages that are not declared are skipped. Enums are numbers,
so that a number of a later version is no error.
"""

from __future__ import annotations

import types
from enum import IntEnum
from functools import cache
from typing import Annotated, Final, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from perdure.model.errors import PerdureError

SUBPROTOCOL: Final = "v0.connect.inngest.com"
"""The WebSocket subprotocol of connect."""
_PACKAGE = "perdure.connect"

M = TypeVar("M", bound="Record")


class MessageError(PerdureError):
    """Bytes that are not the message that they should be."""


class Kind(IntEnum):
    """What a frame is about; `GATEWAY_*` and acknowledgements come from the server, `WORKER_*` from the worker."""

    GATEWAY_HELLO = 0
    WORKER_CONNECT = 1
    GATEWAY_CONNECTION_READY = 2
    GATEWAY_EXECUTOR_REQUEST = 3
    WORKER_READY = 4
    WORKER_REQUEST_ACK = 5
    WORKER_REPLY = 6
    WORKER_REPLY_ACK = 7
    WORKER_PAUSE = 8
    WORKER_HEARTBEAT = 9
    GATEWAY_HEARTBEAT = 10
    GATEWAY_CLOSING = 11
    WORKER_REQUEST_EXTEND_LEASE = 12
    WORKER_REQUEST_EXTEND_LEASE_ACK = 13
    SYNC_FAILED = 14
    WORKER_STATUS = 15


class Status(IntEnum):
    """How a call ended: `NOT_COMPLETED` with operations, `DONE` with the result of the function, `ERROR` without."""

    NOT_COMPLETED = 0
    DONE = 1
    ERROR = 2


class Record(msgspec.Struct):
    """A message: every field is annotated with its number."""


class Frame(Record):
    """One WebSocket message: its kind, and another message as bytes."""

    kind: Annotated[int, 1] = Kind.GATEWAY_HELLO
    payload: Annotated[bytes, 2] = b""


class StartRequest(Record):
    exclude_gateways: Annotated[list[str], 1] = []


class StartResponse(Record):
    """Where a worker connects, and what it shows there."""

    connection_id: Annotated[str, 1] = ""
    gateway_endpoint: Annotated[str, 2] = ""
    gateway_group: Annotated[str, 3] = ""
    session_token: Annotated[str, 4] = ""
    sync_token: Annotated[str, 5] = ""


class AuthData(Record):
    session_token: Annotated[str, 1] = ""
    sync_token: Annotated[str, 2] = ""


class AppConfiguration(Record):
    """An app of a worker. `functions` is the JSON list of a registration's functions (part B.5)."""

    app_name: Annotated[str, 1] = ""
    app_version: Annotated[str | None, 2] = None
    functions: Annotated[bytes, 4] = b""


class SystemAttributes(Record):
    cpu_cores: Annotated[int, 1] = 0
    mem_bytes: Annotated[int, 2] = 0
    os: Annotated[str, 3] = ""


class WorkerConnect(Record):
    """How a worker introduces itself."""

    connection_id: Annotated[str, 1] = ""
    instance_id: Annotated[str, 2] = ""
    auth_data: Annotated[AuthData | None, 3] = None
    capabilities: Annotated[bytes, 4] = b""
    apps: Annotated[list[AppConfiguration], 5] = []
    worker_manual_readiness_ack: Annotated[bool, 6] = False
    system_attributes: Annotated[SystemAttributes | None, 7] = None
    environment: Annotated[str | None, 8] = None
    framework: Annotated[str, 9] = ""
    platform: Annotated[str | None, 10] = None
    sdk_version: Annotated[str, 11] = ""
    sdk_language: Annotated[str, 12] = ""
    max_worker_concurrency: Annotated[int | None, 14] = None


class ConnectionReady(Record):
    """How often the worker shall say that it lives. Durations as in "10s": an SDK reads whole seconds only."""

    heartbeat_interval: Annotated[str, 1] = ""
    extend_lease_interval: Annotated[str, 2] = ""
    status_interval: Annotated[str, 3] = ""


class ExecutorRequest(Record):
    """A call. `request_payload` is the JSON body of a call over HTTP (part C.1)."""

    request_id: Annotated[str, 1] = ""
    account_id: Annotated[str, 2] = ""
    env_id: Annotated[str, 3] = ""
    app_id: Annotated[str, 4] = ""
    app_name: Annotated[str, 5] = ""
    function_id: Annotated[str, 6] = ""
    function_slug: Annotated[str, 7] = ""
    step_id: Annotated[str | None, 8] = None
    request_payload: Annotated[bytes, 9] = b""
    system_trace_ctx: Annotated[bytes, 10] = b""
    user_trace_ctx: Annotated[bytes, 11] = b""
    run_id: Annotated[str, 12] = ""
    lease_id: Annotated[str, 13] = ""
    job_id: Annotated[str, 14] = ""


class RequestAck(Record):
    request_id: Annotated[str, 1] = ""
    account_id: Annotated[str, 2] = ""
    env_id: Annotated[str, 3] = ""
    app_id: Annotated[str, 4] = ""
    function_slug: Annotated[str, 5] = ""
    step_id: Annotated[str | None, 6] = None
    system_trace_ctx: Annotated[bytes, 7] = b""
    user_trace_ctx: Annotated[bytes, 8] = b""
    run_id: Annotated[str, 9] = ""


class ExtendLease(Record):
    request_id: Annotated[str, 1] = ""
    account_id: Annotated[str, 2] = ""
    env_id: Annotated[str, 3] = ""
    app_id: Annotated[str, 4] = ""
    function_slug: Annotated[str, 5] = ""
    step_id: Annotated[str | None, 6] = None
    system_trace_ctx: Annotated[bytes, 7] = b""
    user_trace_ctx: Annotated[bytes, 8] = b""
    run_id: Annotated[str, 9] = ""
    lease_id: Annotated[str, 10] = ""


class ExtendLeaseAck(Record):
    """The worker's new lease; without one it has lost the request."""

    request_id: Annotated[str, 1] = ""
    account_id: Annotated[str, 2] = ""
    env_id: Annotated[str, 3] = ""
    app_id: Annotated[str, 4] = ""
    function_slug: Annotated[str, 5] = ""
    new_lease_id: Annotated[str | None, 6] = None


class SdkResponse(Record):
    """What the worker answers to a call."""

    request_id: Annotated[str, 1] = ""
    account_id: Annotated[str, 2] = ""
    env_id: Annotated[str, 3] = ""
    app_id: Annotated[str, 4] = ""
    status: Annotated[int, 5] = Status.NOT_COMPLETED
    body: Annotated[bytes, 6] = b""
    no_retry: Annotated[bool, 7] = False
    retry_after: Annotated[str | None, 8] = None
    sdk_version: Annotated[str, 9] = ""
    request_version: Annotated[int, 10] = 0
    system_trace_ctx: Annotated[bytes, 11] = b""
    user_trace_ctx: Annotated[bytes, 12] = b""
    run_id: Annotated[str, 13] = ""


class ReplyAck(Record):
    request_id: Annotated[str, 1] = ""


class FlushResponse(Record):
    request_id: Annotated[str, 1] = ""


class WorkerStatus(Record):
    in_flight_request_ids: Annotated[list[str], 1] = []
    shutdown_requested: Annotated[bool, 2] = False


class SyncFailed(Record):
    """Why apps were not registered."""

    code: Annotated[str, 1] = ""
    data: Annotated[bytes | None, 2] = None
    message: Annotated[str, 3] = ""


def encode(record: Record) -> bytes:
    """The bytes of a message."""
    return _to_message(record).SerializeToString()


def decode(kind: type[M], data: bytes) -> M:
    """Reads a message; raises `MessageError`.

    >>> decode(ReplyAck, encode(ReplyAck("01J"))), decode(SdkResponse, b"").status == Status.NOT_COMPLETED
    (ReplyAck(request_id='01J'), True)
    """
    message = _message_class(kind)()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise MessageError(f"not a message of the kind {kind.__name__}: {error}") from error
    return _to_record(kind, message)


def frame(kind: Kind, record: Record | None = None) -> bytes:
    """The bytes of a frame that carries a message, or none."""
    return encode(Frame(kind, b"" if record is None else encode(record)))


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


def _describe_all() -> DescriptorPool:
    file = FileDescriptorProto(name="perdure/connect.proto", package=_PACKAGE, syntax="proto3")
    for kind in Record.__subclasses__():
        _describe(kind, file.message_type.add())
    # A pool of its own: SDKs in the same process describe messages of the same protocol in the common one.
    pool = DescriptorPool()
    pool.Add(file)
    return pool


_POOL = _describe_all()


@cache
def _message_class(kind: type[Record]) -> type[Message]:
    return GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{kind.__name__}"))


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

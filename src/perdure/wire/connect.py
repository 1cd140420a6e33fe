"""The messages of connect, by which workers that keep a WebSocket open get their calls (part E.6), as protobuf.

Each message is a Struct whose fields are annotated with their protobuf numbers; the descriptors are built from that
at the first use, so that this declaration is the only one. A field that may be missing is `T | None`; any other one
that is missing has its default, as proto3 has it. Fields and messages that are not declared are skipped. Enums are
numbers, so that a number of a later version is no error.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final

import msgspec

from perdure.wire.record import M as M
from perdure.wire.record import MessageError as MessageError
from perdure.wire.record import Record as Record

SUBPROTOCOL: Final = "v0.connect.inngest.com"
"""The WebSocket subprotocol of connect."""


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


class Frame(Record):
    """One WebSocket message: its kind, and another message as bytes."""

    kind: Annotated[int, 1] = Kind.GATEWAY_HELLO
    payload: Annotated[bytes, 2] = b""


class StartRequest(Record):
    exclude_gateways: Annotated[list[str], 1] = msgspec.field(default_factory=list)


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
    apps: Annotated[list[AppConfiguration], 5] = msgspec.field(default_factory=list)
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
    in_flight_request_ids: Annotated[list[str], 1] = msgspec.field(default_factory=list)
    shutdown_requested: Annotated[bool, 2] = False


class SyncFailed(Record):
    """Why apps were not registered."""

    code: Annotated[str, 1] = ""
    data: Annotated[bytes | None, 2] = None
    message: Annotated[str, 3] = ""


def encode(record: Record) -> bytes:
    """The bytes of a message."""
    from perdure.wire import protobuf

    return protobuf.encode(record)


def decode(kind: type[M], data: bytes) -> M:
    """Reads a message; raises `MessageError`.

    >>> decode(ReplyAck, encode(ReplyAck("01J"))), decode(SdkResponse, b"").status == Status.NOT_COMPLETED
    (ReplyAck(request_id='01J'), True)
    """
    from perdure.wire import protobuf

    return protobuf.decode(kind, data)


def frame(kind: Kind, record: Record | None = None) -> bytes:
    """The bytes of a frame that carries a message, or none."""
    return encode(Frame(kind, b"" if record is None else encode(record)))

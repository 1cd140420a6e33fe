"""A client of a perdure server over HTTP: `from perdure.client import Client`."""

from __future__ import annotations

from perdure.client.client import Client, EventLike
from perdure.client.errors import ApiError, ServerUnreachableError, StreamError
from perdure.client.event_stream import EventStream
from perdure.client.rollback import RollbackBuffer
from perdure.client.shapes import AppRef, FunctionRef, ReplayInfo, RunInfo, RunPage, Span, TriggerInfo
from perdure.client.stream_shapes import Commit, Data, Metadata, Rollback, StreamEvent, StreamResponse
from perdure.client.streaming import fetch_with_stream, stream_events

__all__ = [
    "ApiError",
    "AppRef",
    "Client",
    "Commit",
    "Data",
    "EventLike",
    "EventStream",
    "FunctionRef",
    "Metadata",
    "ReplayInfo",
    "Rollback",
    "RollbackBuffer",
    "RunInfo",
    "RunPage",
    "ServerUnreachableError",
    "Span",
    "StreamError",
    "StreamEvent",
    "StreamResponse",
    "TriggerInfo",
    "fetch_with_stream",
    "stream_events",
]

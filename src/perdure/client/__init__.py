"""A client of a perdure server over HTTP: `from perdure.client import Client`."""

from __future__ import annotations

from perdure.client.client import Client, EventLike
from perdure.client.errors import ApiError, ServerUnreachableError
from perdure.client.shapes import AppRef, FunctionRef, ReplayInfo, RunInfo, RunPage, Span, TriggerInfo

__all__ = [
    "ApiError",
    "AppRef",
    "Client",
    "EventLike",
    "FunctionRef",
    "ReplayInfo",
    "RunInfo",
    "RunPage",
    "ServerUnreachableError",
    "Span",
    "TriggerInfo",
]

"""The way to an app: one call, one reply, whatever carries them (HTTP, or the WebSocket of a worker)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from perdure.model.errors import PerdureError


class Call(msgspec.Struct, gc=False):
    """A request to run a function: `body` as it is sent, `step_id` "step" or the hash of the step that shall run.

    `signed` is what is signed instead of the body, where the other side cannot verify that. `proven`: where there are
    keys, an answer is one only if a key of them signed it, for whoever made the request named the host that is called.
    """

    url: str
    headers: dict[str, str]
    body: bytes
    app_id: str
    function_id: str
    run_id: str
    request_id: str
    step_id: str
    job_id: str
    method: str = "POST"
    signed: bytes | None = None
    proven: bool = False


class Reply(msgspec.Struct, gc=False):
    """What the app answered. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class CallError(PerdureError):
    """There is no reply. `code` is a machine word such as "http_unreachable"; the message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Transport(Protocol):
    """Carries calls to apps."""

    async def call(self, call: Call) -> Reply:
        """Calls an app. Raises `CallError`."""
        ...

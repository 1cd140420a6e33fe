r"""The events of an endpoint's stream, as bytes: one line of a name, one of JSON, and an empty one.

>>> commit("86f7")
b'event: inngest.commit\ndata: {"hashedStepId":"86f7"}\n\n'
"""

from __future__ import annotations

import msgspec

from perdure.model.json import Json, encode
from perdure.serving.endpoints.responses import Captured


def metadata(run_id: str) -> bytes:
    """Which run this is; the first event of every body."""
    return _event("metadata", {"runId": run_id})


def chunk(step: str | None, data: bytes) -> bytes:
    """A chunk (JSON) of a step, or of none."""
    told: dict[str, Json] = {"data": msgspec.Raw(data)}
    return _event("stream", told if step is None else {**told, "hashedStepId": step})


def commit(step: str) -> bytes:
    """What the step has streamed holds."""
    return _event("commit", {"hashedStepId": step})


def rollback(step: str) -> bytes:
    """What the step has streamed is taken back."""
    return _event("rollback", {"hashedStepId": step})


def redirect_info(run_id: str, url: str) -> bytes:
    """Where the stream goes on when this one ends without a response."""
    return _event("redirect_info", {"runId": run_id, "url": url})


def succeeded(response: Captured) -> bytes:
    """The answer of the endpoint; the last event."""
    told = {"body": response.text, "statusCode": response.status, "headers": response.headers, **response.exactly()}
    return _event("response", {"status": "succeeded", "response": told})


def failed(message: str) -> bytes:
    """The endpoint failed; the last event."""
    headers = {"content-type": "application/json"}
    told = {"body": encode(message).decode(), "statusCode": 500, "headers": headers}
    return _event("response", {"status": "failed", "response": told})


def _event(name: str, data: Json) -> bytes:
    return b"event: inngest." + name.encode() + b"\ndata: " + encode(data) + b"\n\n"

r"""The events by which the stream of a request ends, as bytes: one line of a name, one of JSON, and an empty one.

>>> redirect_info("01J", "/here")
b'event: inngest.redirect_info\ndata: {"runId":"01J","url":"/here"}\n\n'
"""

from __future__ import annotations

from perdure.model.json import Json, encode
from perdure.serving.endpoints.responses import Captured


def redirect_info(run_id: str, url: str, output_url: str | None = None) -> bytes:
    """Where the stream goes on when this one ends without a response, and where the answer will be without it."""
    told = {"runId": run_id, "url": url}
    return _event("redirect_info", told if output_url is None else {**told, "outputUrl": output_url})


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

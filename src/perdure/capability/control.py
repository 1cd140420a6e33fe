"""The control adapter of a capability: whether it is alive and ready, and what it serves.

`/health/live` and `/health/ready` unless `management.health` is false; `/status` if `management.info` is true; and
`/metrics`, as Prometheus reads it.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from perdure.capability.counting import CONTENT_TYPE
from perdure.capability.describing import upstream_calls
from perdure.capability.model import Capability
from perdure.capability.requests import CallError
from perdure.capability.rest import Face
from perdure.model.json import Json, encode


class ControlDoor:
    """Serves the control adapters of one port."""

    def __init__(self, faces: Sequence[Face]) -> None:
        self._faces = list(faces)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            answer = self._answer(scope)
        except CallError as error:
            told = {"error": str(error), "code": error.code, "status": error.status}
            answer = Response(encode(told), error.status, media_type="application/json")
        await answer(scope, receive, send)

    def _answer(self, scope: Scope) -> Response:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        for face in self._faces:
            face.admission.check(headers, scope["query_string"].decode("latin-1"))
        management = self._faces[0].exposure.management
        path = scope["path"].rstrip("/")
        if path in ("/health/live", "/health/ready") and management.get("health", True):
            return _json({"status": "UP"})
        if path == "/status" and management.get("info"):
            return _json({"capabilities": [_status(each.performer.capability) for each in self._faces]})
        if path == "/metrics":
            lines = [line for each in self._faces for line in each.performer.counts.samples(_name(each))]
            return Response("".join(f"{line}\n" for line in lines), headers={"content-type": CONTENT_TYPE})
        told = "there is /health/live, /health/ready, /metrics, and /status with management.info"
        raise CallError(404, "not_found", told)


def _json(body: Json) -> Response:
    return Response(encode(body), media_type="application/json")


def _name(face: Face) -> str:
    return face.performer.capability.title or "capability"


def _status(capability: Capability) -> Json:
    actions = [
        *(each.action for one in capability.exposures for each in one.operations),
        *(each.action for one in capability.exposures for each in one.tools),
    ]
    return {
        "name": capability.title,
        "version": capability.version,
        "adapters": [
            {"type": each.kind, "namespace": each.namespace, "port": each.port} for each in capability.exposures
        ],
        "upstreams": [each.namespace for each in capability.consumers],
        "operations": {each.name: upstream_calls(capability, each) for each in actions},
    }

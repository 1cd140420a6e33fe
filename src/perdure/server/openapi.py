"""`GET /openapi.json`: the OpenAPI 3.1 document of the server, made from the operation catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from http import HTTPStatus
from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.model.json import Json, encode
from perdure.server.catalogue import AGENTS, PROTOCOL, V1, V2, Operation
from perdure.server.catalogue import schemas as s
from perdure.server.catalogue.operation import Parameter
from perdure.server.envelope import JSON_TYPE, is_agents

_ABOUT = (
    "Events in, runs out. /v2 is mounted at /api/v2, too. A server with keys asks for a bearer, the signing key "
    "or an API key whose role is x-role or above, and for an event key in the path of events; one for development asks "
    "for nothing."
)
_V2 = "/v2"


def routes() -> list[Route]:
    """The route of the document."""

    async def openapi(request: Request) -> Response:
        return Response(_encoded(), media_type=JSON_TYPE)

    return [Route("/openapi.json", openapi)]


@cache
def _encoded() -> bytes:
    return encode(document())


def document() -> Json:
    """The document.

    >>> document()["openapi"]
    '3.1.0'
    """
    paths: dict[str, dict[str, Json]] = {}
    for mount, operations in (("", PROTOCOL), ("", V1), (_V2, V2), ("", AGENTS)):
        for operation in operations:
            paths.setdefault(mount + operation.path, {})[operation.method.lower()] = _operation(operation, mount)
    return {
        "openapi": "3.1.0",
        "info": {"title": "perdure", "version": version("perdure"), "description": _ABOUT},
        "tags": [{"name": tag} for tag in _unique(each.tag for each in (*PROTOCOL, *V1, *V2, *AGENTS))],
        "security": [{}, {"signingKey": []}],
        "paths": paths,
        "components": {
            "schemas": s.COMPONENTS,
            "securitySchemes": {"signingKey": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation, mount: str) -> Json:
    shown: dict[str, Json] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "description": operation.about,
        "tags": [operation.tag],
        "x-role": operation.role.word,
        "responses": _responses(operation, mount),
    }
    if operation.parameters:
        shown["parameters"] = [_parameter(each) for each in operation.parameters]
    if operation.body is not None:
        content = {operation.body.media: {"schema": operation.body.schema}}
        shown["requestBody"] = {"content": content, "required": operation.body.required}
    return shown


def _parameter(parameter: Parameter) -> Json:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        "description": parameter.about,
        "schema": parameter.schema,
    }


def _responses(operation: Operation, mount: str) -> Json:
    error = _error(operation, mount)
    found: dict[int, list[str]] = {}
    bodies: dict[int, Json] = {}
    for failure in operation.failures:
        code = f" ({failure.code})" if failure.code else ""
        found.setdefault(failure.status, []).append(f"{failure.about}{code}")
        bodies[failure.status] = failure.schema or error
    responses = {str(status): _response(" ".join(told), bodies[status]) for status, told in sorted(found.items())}
    if "409" in responses and operation.status == 200 and mount == _V2:
        # A repeated invocation is answered with the run that it started first.
        responses["409"] = _response(" ".join(found[409]), {"anyOf": [operation.answer, error]})
    agents = is_agents(operation.path)
    if agents:
        responses["401"] = _response("The key, or the token of a user, is missing or unknown.", error)
    elif 401 not in found and not operation.path.startswith("/health"):
        responses["401"] = _response("The signing key is missing or unknown.", s.TEXT, "text/plain")
    told = "A server for development answers only under names of its own machine."
    responses.setdefault("403", _response(told, error))
    responses.setdefault("503", _response("The store cannot answer now; try again later.", error))
    answer = {"description": HTTPStatus(operation.status).phrase}
    shown = answer if operation.answer is None else _response(answer["description"], operation.answer, operation.media)
    return {str(operation.status): shown, **responses}


def _response(about: str, schema: Json, media: str = JSON_TYPE) -> Json:
    return {"description": about, "content": {media: {"schema": schema}}}


def _error(operation: Operation, mount: str) -> Json:
    if mount == _V2:
        return s.ref("Errors")
    if is_agents(operation.path):
        return s.ref("AgentsError")
    return s.ref("EventsError" if operation.path.startswith("/e/") else "Error")


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))

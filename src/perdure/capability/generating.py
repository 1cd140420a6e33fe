"""The capability document of a perdure server: its API as REST adapter and tools, in the newest published format.

It is made from the operation catalogue, as everything else that tells of the API.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import yaml

from perdure.model.json import Json
from perdure.server.catalogue import PROTOCOL, V1, V2, Argument, Operation, arguments, hints

VERSIONS = ("1.0.0-beta4", "1.0.0-beta5", "1.0.0-beta6", "1.0.0-beta7")
"""The versions of the format whose documents these are: each document must say one of them."""
VERSION = VERSIONS[0]
_TYPES = ("string", "number", "integer", "boolean", "array", "object")
_HINTS = {
    "readOnlyHint": "readOnly",
    "destructiveHint": "destructive",
    "idempotentHint": "idempotent",
    "openWorldHint": "openWorld",
}


def generate(base_uri: str, rest_port: int = 8080, mcp_port: int = 9090, version: str = VERSION) -> str:
    """The document of a server at an address, as YAML."""
    made = document(base_uri, rest_port, mcp_port, version)
    text: str = yaml.safe_dump(made, sort_keys=False, allow_unicode=True, width=110)
    return text


def document(base_uri: str, rest_port: int, mcp_port: int, version: str = VERSION) -> Json:
    """The document as plain data."""
    return {
        "ikanos": version,
        "info": {
            "display": "perdure",
            "description": "Durable functions: send events, follow the runs that they start, cancel and repeat them.",
            "tags": ["Events", "Runs", "Durable Execution"],
        },
        "binds": [
            {
                "namespace": "perdure-env",
                "description": "The key of the server; one for development takes any.",
                "keys": {"PERDURE_SIGNING_KEY": "PERDURE_SIGNING_KEY"},
            }
        ],
        "capability": {
            "consumes": [
                {
                    "namespace": "perdure",
                    "type": "http",
                    "description": "The API of a perdure server.",
                    "baseUri": base_uri.rstrip("/"),
                    "authentication": {"type": "bearer", "token": "{{PERDURE_SIGNING_KEY}}"},
                    "resources": dict(_consumed()),
                }
            ],
            "exposes": [
                {"type": "rest", "port": rest_port, "namespace": "perdure-rest", "resources": dict(_routes())},
                {
                    "type": "mcp",
                    "transport": "http",
                    "port": mcp_port,
                    "namespace": "perdure-mcp",
                    "description": "Durable functions: send events, follow the runs that they start, repeat them.",
                    "tools": dict(_tools()),
                },
            ],
        },
    }


def _operations() -> Iterator[tuple[str, str, Operation]]:
    """The operations for agents, with their names and mounts; of two with one tool the first."""
    post = next(each for each in PROTOCOL if each.id == "PostEvents")
    yield "post-events", "", post
    for mount, operations in (("", V1), ("/v2", V2)):
        for operation in operations:
            if operation.tool:
                yield operation.tool.replace("_", "-"), mount, operation


def _taken(operation: Operation) -> list[Argument]:
    """The arguments that travel in the path and query, and the body as one."""
    found = [each for each in arguments(operation) if each.place in ("path", "query")]
    if operation.body is not None:
        about = "The body, as JSON: see the API's own document."
        found.append(Argument("body", "body", "", {"type": "object"}, about, operation.body.required))
    return found


def _path(mount: str, operation: Operation) -> str:
    path = mount + operation.path
    for each in arguments(operation):
        if each.place == "path":
            path = path.replace(f"{{{each.wire}}}", f"{{{{{each.name}}}}}")
    return path


def _consumed() -> Iterator[tuple[str, Json]]:
    for name, mount, operation in _operations():
        taken = _taken(operation)
        made: dict[str, Json] = {"method": operation.method, "description": operation.about}
        if taken:
            made["inputParameters"] = {each.name: {"in": each.place} for each in taken}
        made["outputRawFormat"] = "json"
        yield name, {"path": _path(mount, operation), "operations": {name: made}}


def _routes() -> Iterator[tuple[str, Json]]:
    for name, mount, operation in _operations():
        made: dict[str, Json] = {"method": operation.method, "description": operation.about}
        taken = _taken(operation)
        if taken:
            made["inputParameters"] = {
                each.name: {"in": each.place, "type": _type(each), "description": each.about} for each in taken
            }
        made["call"] = f"perdure.{name}"
        made |= _with("perdure-rest", taken)
        yield name, {"path": _path(mount, operation), "operations": {name: made}}


def _tools() -> Iterator[tuple[str, Json]]:
    for name, _, operation in _operations():
        taken = _taken(operation)
        made: dict[str, Json] = {"display": operation.summary, "description": operation.about}
        if taken:
            made["inputParameters"] = {
                each.name: {"type": _type(each), "description": each.about, "required": each.required} for each in taken
            }
        made["call"] = f"perdure.{name}"
        made |= _with("perdure-mcp", taken)
        made["hints"] = {_HINTS[key]: value for key, value in hints(operation).items()}
        yield name, made


def _with(namespace: str, taken: Iterable[Argument]) -> dict[str, Json]:
    given = {each.name: f"{namespace}.{each.name}" for each in taken}
    return {"with": given} if given else {}


def _type(argument: Argument) -> str:
    type_ = argument.schema.get("type", "object")
    first = next((each for each in type_ if each != "null"), "string") if isinstance(type_, list) else type_
    return first if first in _TYPES else "string"

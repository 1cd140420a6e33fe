"""What the catalogue says of an operation, and what follows from it: a request, and the schema of a tool's arguments.

An operation has one set of arguments by name, wherever they travel: in the path, the query, or as fields of the body.
Names in the path have underscores (`run_id`); as arguments they are written like all others (`runId`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from urllib.parse import quote

import msgspec

from perdure.model.json import Json
from perdure.model.roles import Role

Place = Literal["path", "query", "header"]


class Parameter(msgspec.Struct, frozen=True):
    """A parameter in the path, the query or a header; `schema` is its JSON schema."""

    name: str
    schema: Json
    about: str
    place: Place = "query"
    required: bool = False


class Body(msgspec.Struct, frozen=True):
    """A JSON body and its schema."""

    schema: Json
    required: bool = True
    media: str = "application/json"


class Failure(msgspec.Struct, frozen=True):
    """A status that a request may be answered with instead, and the code of the v2 envelope.

    `schema` is that of the body, None for the envelope of errors of the API.
    """

    status: int
    code: str
    about: str
    schema: Json = None


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of an API.

    `path` is that below the API's mount. `answer` is the schema of the body of a success, None where there is no
    body; `media` is its content type. `tool` is the name under which agents know the operation. `asks` is the role
    that a caller needs, where it is another than follows from `read_only`.
    """

    id: str
    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    summary: str
    about: str
    tag: str
    answer: Json
    media: str = "application/json"
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    status: int = 200
    failures: tuple[Failure, ...] = ()
    tool: str = ""
    read_only: bool = False
    idempotent: bool = False
    destructive: bool = False
    asks: Role | None = None

    @property
    def role(self) -> Role:
        """The role that a caller needs: viewers read, operators act.

        >>> Operation(id="Stop", method="POST", path="/stop", summary="", about="", tag="", answer=None).role
        <Role.OPERATOR: 2>
        """
        return self.asks or (Role.VIEWER if self.read_only else Role.OPERATOR)

    @property
    def command(self) -> str:
        """The name on the command line.

        >>> Operation(id="ListRuns", method="GET", path="/runs", summary="", about="", tag="", answer=None).command
        'list-runs'
        """
        return "".join(f"-{char.lower()}" if char.isupper() else char for char in self.id).lstrip("-")


class Argument(msgspec.Struct, frozen=True):
    """One argument of an operation: where it travels, under which name, and what it may be."""

    name: str
    place: Literal["path", "query", "header", "body"]
    wire: str
    schema: Json
    about: str
    required: bool


class Request(msgspec.Struct, frozen=True):
    """What to send for an operation; `body` is None where there is none."""

    method: str
    path: str
    query: dict[str, Json]
    body: Json


def arguments(operation: Operation) -> list[Argument]:
    """The arguments of an operation. A body that is no object is the argument `body`."""
    found = [
        Argument(_argument_name(each), each.place, each.name, each.schema, each.about, each.required)
        for each in operation.parameters
    ]
    if operation.body is None:
        return found
    schema = operation.body.schema
    if schema.get("type") != "object":
        return [*found, Argument("body", "body", "", schema, "The body, as JSON.", operation.body.required)]
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        found.append(Argument(name, "body", name, field, field.get("description", name), name in required))
    return found


def tool_schema(operation: Operation) -> Json:
    """The JSON schema of the arguments as one object.

    >>> from perdure.server.catalogue import V2
    >>> tool_schema(next(each for each in V2 if each.id == "GetFunctionRun"))["required"]
    ['runId']
    """
    taken = [each for each in arguments(operation) if each.place != "header"]
    properties = {each.name: {**each.schema, "description": each.about} for each in taken}
    required = [each.name for each in taken if each.required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def request_for(operation: Operation, given: Mapping[str, Json], mount: str = "/v2") -> Request:
    """The request that an operation with these arguments is. Raises `ValueError` for unknown and missing ones.

    >>> from perdure.server.catalogue import V2
    >>> cancel = next(each for each in V2 if each.id == "CancelRun")
    >>> request_for(cancel, {"runId": "01HF7YAT000000000000000001"}).path
    '/v2/runs/01HF7YAT000000000000000001/cancel'
    """
    known = {each.name: each for each in arguments(operation) if each.place != "header"}
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        raise ValueError(f"{operation.id} has no argument {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    missing = [name for name, each in known.items() if each.required and given.get(name) is None]
    if missing:
        raise ValueError(f"{operation.id} needs {', '.join(missing)}")
    path, query = operation.path, dict[str, Json]()
    body: Json = None if operation.body is None else {}
    for name, value in given.items():
        argument = known[name]
        if value is None:
            continue
        if argument.place == "path":
            path = path.replace(f"{{{argument.wire}}}", quote(str(value), safe=""))
        elif argument.place == "query":
            query[argument.wire] = value
        elif argument.wire:
            body = {**(body or {}), argument.wire: value}
        else:
            body = value
    return Request(operation.method, mount + path, query, body)


def hints(operation: Operation) -> Json:
    """What an agent is told of the effects of a tool."""
    if operation.read_only:
        return {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False}
    shown = {"readOnlyHint": False, "destructiveHint": operation.destructive, "openWorldHint": False}
    return shown | {"idempotentHint": True} if operation.idempotent else shown


def _argument_name(parameter: Parameter) -> str:
    first, *others = parameter.name.split("_")
    return first + "".join(word.capitalize() for word in others) if parameter.place == "path" else parameter.name

"""Documents of one API in many dialects: as publishers write them, in all versions, with what they leave out.

Each switch of a `Dialect` is one way in which documents in the wild differ from the published format, or from each
other; whatever they are, the same requests must be sent.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from perdure.model.json import Json

HOSTED = "https://api.inngest.com"


class Call(msgspec.Struct, frozen=True):
    """One operation of the API: its path with `{names}`, the names of its query, and whether it takes a body."""

    name: str
    method: str
    path: str
    query: Sequence[str] = ()
    body: bool = False

    @property
    def places(self) -> list[str]:
        """The names in its path."""
        return [part[1:-1] for part in self.path.split("/") if part.startswith("{")]


CALLS = (
    Call("sendEvents", "POST", "/e/{eventKey}", body=True),
    Call("listEvents", "GET", "/v1/events", ("name", "limit")),
    Call("getEvent", "GET", "/v1/events/{eventId}"),
    Call("listEventRuns", "GET", "/v1/events/{eventId}/runs"),
    Call("getRun", "GET", "/v1/runs/{runId}"),
    Call("listRunJobs", "GET", "/v1/runs/{runId}/jobs"),
    Call("cancelRun", "POST", "/v1/runs/{runId}/cancel"),
    Call("deleteRun", "DELETE", "/v1/runs/{runId}"),
    Call("listFunctions", "GET", "/v1/functions"),
    Call("v2-get-function-run", "GET", "/v2/runs/{runId}", ("includeOutput",)),
    Call("v2-get-function-trace", "GET", "/v2/runs/{runId}/trace"),
    Call("invoke-function", "POST", "/v2/apps/{appId}/functions/{functionId}/invoke", body=True),
    Call("list_apps", "GET", "/v2/apps", ("limit", "cursor")),
    Call("sync-app", "POST", "/v2/apps/{appId}/syncs", body=True),
    Call("list-environments", "GET", "/v2/envs"),
    Call("create-environment", "POST", "/v2/envs", body=True),
    Call("update-environment", "PATCH", "/v2/envs/{id}", body=True),
    Call("list-event-keys", "GET", "/v2/keys/events"),
    Call("list-signing-keys", "GET", "/v2/keys/signing"),
    Call("list-webhooks", "GET", "/v2/env/webhooks"),
    Call("create-webhook", "POST", "/v2/env/webhooks", body=True),
    Call("get-account", "GET", "/v2/account"),
)


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How a document is written."""

    root: str = "naftiko"
    version: str = "1.0.0-alpha2"
    maps: bool = False
    label: str = "label"
    typed: bool = True
    """Whether consumed parameters say type, required and description, which the format does not have."""
    braces: int = 1
    prefix: str = "word"
    """What stands before arguments in `with`: word (rest, tools), namespace, kind, template, or none: no `with`."""
    outputs: str = "$."
    described: bool = True
    lower: bool = False
    """Whether names in exposed paths are in lower case."""
    inputs: bool = False
    """Whether what is exposed declares its parameters."""
    body: str = "parameter"
    """How a body is written: parameter, template, typed, or none."""
    required: bool = True
    token: str = "{{API_TOKEN}}"
    unused: bool = False
    binds: str = "before"
    hints: str = "hints"
    ports: Json = 8080
    base: str = HOSTED
    method: str = "upper"


def document(dialect: Dialect, calls: Sequence[Call] = CALLS) -> dict[str, Json]:
    """The document."""
    names = {"API_TOKEN": "API_TOKEN", **({"EVENT_KEY": "EVENT_KEY"} if dialect.unused else {})}
    binds = [{"namespace": "env", "keys": names}]
    body: dict[str, Json] = {
        "consumes": [_consumer(dialect, calls)],
        "exposes": [_rest(dialect, calls), _mcp(dialect, calls)],
    }
    info = {dialect.label: "The API", "description": "Events and runs.", "tags": ["Events"], "created": "2026-05-06"}
    made: dict[str, Json] = {dialect.root: dialect.version, "info": info}
    if dialect.binds == "within":
        return {**made, "capability": {"binds": binds, **body}}
    if dialect.binds == "before":
        return {**made, "binds": binds, "capability": body}
    return {**made, "capability": body, "binds": binds}


def _entries(dialect: Dialect, entries: Sequence[dict[str, Json]]) -> Json:
    """Entries with names, as a list or a map."""
    if not dialect.maps:
        return list(entries)
    return {each["name"]: {key: value for key, value in each.items() if key != "name"} for each in entries}


def _consumer(dialect: Dialect, calls: Sequence[Call]) -> Json:
    found: list[dict[str, Json]] = []
    for call in calls:
        path = call.path.replace("{", "{{").replace("}", "}}") if dialect.braces == 2 else call.path
        operation: dict[str, Json] = {"name": call.name, "method": _method(dialect, call), "outputRawFormat": "json"}
        inputs = [_consumed(dialect, name, "path", True) for name in call.places]
        inputs += [_consumed(dialect, name, "query", False) for name in call.query]
        if call.body and dialect.body == "parameter":
            inputs.append(_consumed(dialect, "body", "body", True))
        elif call.body and dialect.body == "template":
            operation["body"] = "{{body}}"
        elif call.body and dialect.body == "typed":
            operation["body"] = {"type": "json", "data": "{{body}}"}
        if inputs:
            operation["inputParameters"] = _entries(dialect, inputs)
        if dialect.outputs:
            operation["outputParameters"] = _entries(dialect, [{"name": "result", "type": "object", "value": "$."}])
        found.append({"name": f"r-{call.name}", "path": path, "operations": _entries(dialect, [operation])})
    consumer: dict[str, Json] = {
        "type": "http",
        "namespace": "api",
        "baseUri": dialect.base,
        "authentication": {"type": "bearer", "token": dialect.token},
        "resources": _entries(dialect, found),
    }
    return consumer


def _consumed(dialect: Dialect, name: str, place: str, required: bool) -> dict[str, Json]:
    made: dict[str, Json] = {"name": name, "in": place}
    if dialect.typed:
        made["type"] = "object" if place == "body" else "integer" if name == "limit" else "string"
        made["description"] = f"The {name}."
        if dialect.required and required:
            made["required"] = True
    return made


def _method(dialect: Dialect, call: Call) -> str:
    return call.method.lower() if dialect.method == "lower" else call.method


def _action(dialect: Dialect, call: Call, kind: str) -> dict[str, Json]:
    made: dict[str, Json] = {"call": f"api.{call.name}"}
    if dialect.described:
        made["description"] = f"Does {call.name}."
    names = [*call.places, *call.query, *(["body"] if call.body and dialect.body != "none" else [])]
    if dialect.prefix != "none" and names:
        word = {"word": "rest" if kind == "rest" else "tools", "namespace": f"api-{kind}"}.get(dialect.prefix, kind)
        pattern = "{{%s}}" if dialect.prefix == "template" else f"{word}.%s"
        made["with"] = {name: pattern % name for name in names}
    if dialect.outputs:
        made["outputParameters"] = [{"type": "object", "mapping": dialect.outputs}]
    return made


def _rest(dialect: Dialect, calls: Sequence[Call]) -> Json:
    found: list[dict[str, Json]] = []
    for call in calls:
        path = call.path.lower() if dialect.lower else call.path
        operation = {"name": call.name, "method": _method(dialect, call), **_action(dialect, call, "rest")}
        if dialect.inputs:
            inputs = [(name, "path", "string") for name in call.places] + [
                (name, "query", "string") for name in call.query
            ]
            inputs += [("body", "body", "object")] if call.body else []
            operation["inputParameters"] = _entries(
                dialect,
                [{"name": name, "in": place, "type": type_, "description": "x"} for name, place, type_ in inputs],
            )
        found.append({"name": f"x-{call.name}", "path": path, "operations": _entries(dialect, [operation])})
    made: dict[str, Json] = {"type": "rest", "namespace": "api-rest", "port": dialect.ports}
    if dialect.described:
        made["description"] = "REST."
    return {**made, "resources": _entries(dialect, found)}


def _mcp(dialect: Dialect, calls: Sequence[Call]) -> Json:
    found: list[dict[str, Json]] = []
    for call in calls:
        tool = {"name": call.name, **_action(dialect, call, "mcp")}
        tool.setdefault("description", call.name)
        if dialect.hints:
            key = {"hints": "readOnly", "annotations": "readOnly"}[dialect.hints]
            tool[dialect.hints] = {key: call.method == "GET", "destructive": call.method == "DELETE"}
        if dialect.inputs:
            inputs = [(name, "string", True) for name in call.places] + [(name, "string", False) for name in call.query]
            inputs += [("body", "object", True)] if call.body else []
            tool["inputParameters"] = _entries(
                dialect,
                [
                    {"name": name, "type": type_, "description": "x", "required": needed}
                    for name, type_, needed in inputs
                ],
            )
        found.append(tool)
    return {
        "type": "mcp", "transport": "http", "namespace": "api-mcp", "port": dialect.ports,
        "tools": _entries(dialect, found),
    }  # fmt: skip

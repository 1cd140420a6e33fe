"""The tools of a server: the operations of the catalogue that have a tool's name, and those that are made of several.

An operation's tool has its arguments, its answer and the effects that the catalogue tells of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

from perdure.model.json import Json
from perdure.server.catalogue import V1, V2, Operation, hints, request_for, tool_schema
from perdure.server.catalogue import schemas as s
from perdure.server.mcp import agents, diagnosis, documents, functions, waiting
from perdure.server.mcp.asking import Ask, parsed, told
from perdure.server.mcp.offering import Answer, Caller, Tool, ToolError
from perdure.server.mcp.portable import described, portable

TOOLSETS = {
    "runs": "runs: list, show, cancel, start once more",
    "events": "events: send, list, show",
    "functions": "functions: list, show, invoke, pause, replay",
    "apps": "apps: list, show, sync",
    "diagnose": "why a run failed, and which stand still",
    "server": "whether the server answers",
    agents.TOOLSET: "agents: ask them, and decide what waits for a person",
    documents.TOOLSET: "the documentation: list, read, search",
    functions.TOOLSET: "functions: each a tool of its own; only when it is asked for",
}
_SETS = {"Signals": "events", "Cancellations": "runs"}
_BEFORE_ID = re.compile(r"/(\w+?)s/\{id\}")


def tools(ask: Ask) -> list[Tool]:
    """The tools of every server, whatever its apps are."""
    return [*_projected(ask), _list_functions(ask), *waiting.tools(ask), *diagnosis.tools(ask), *documents.tools()]


def _projected(ask: Ask) -> Iterator[Tool]:
    for mount, operations in (("", V1), ("/v2", V2)):
        for operation in operations:
            # Without an app the functions of all are listed; see below.
            if operation.tool and operation.tool != "list_functions":
                yield _tool(ask, operation, mount)


def _tool(ask: Ask, operation: Operation, mount: str) -> Tool:
    schema: Json = portable(tool_schema(operation))
    # v1 calls every id `id`; an agent should know whose it is.
    match = _BEFORE_ID.search(operation.path)
    renamed = f"{match[1]}Id" if match else ""
    if renamed:
        schema = _rename(schema, "id", renamed)

    async def call(given: dict[str, Json], caller: Caller) -> Answer:
        named = {"id" if name == renamed else name: value for name, value in given.items()}
        request = request_for(operation, named, mount)
        status, body = await ask(request.method, unquote(request.path), request.query, request.body)
        if status >= 400:
            raise ToolError(told(status, body))
        value = parsed(body)
        return Answer(value) if value is not None else Answer(text=f"HTTP {status}")

    return Tool(
        name=operation.tool,
        title=operation.summary,
        description=_described(operation),
        input_schema=schema,
        output_schema=output_schema(operation.answer),
        hints=hints(operation),
        toolset=_SETS.get(operation.tag, operation.tag.lower()),
        call=call,
    )


def _described(operation: Operation) -> str:
    refusals = [f"{each.about}" for each in operation.failures if each.status in (404, 409, 422)]
    return f"{operation.about} Fails otherwise: {' '.join(refusals)}" if refusals else operation.about


def _rename(schema: Json, old: str, new: str) -> Json:
    properties = {new if name == old else name: each for name, each in schema["properties"].items()}
    required = [new if name == old else name for name in schema["required"]]
    return {**schema, "properties": properties, "required": required}


def output_schema(answer: Json) -> dict[str, Json] | None:
    """The schema of an answer, with what it refers to beside it; None for one that is no object."""
    if not isinstance(answer, dict) or answer.get("type") != "object":
        return None
    used: dict[str, Json] = {}
    _collect(answer, used)
    schema = _local(answer)
    if used:
        schema = {**schema, "$defs": {name: _local(each) for name, each in sorted(used.items())}}
    told: dict[str, Json] = described(schema)
    return told


def _collect(schema: Json, used: dict[str, Json]) -> None:
    if isinstance(schema, dict):
        name = str(schema.get("$ref", "")).rpartition("/")[2]
        if name and name not in used:
            used[name] = s.COMPONENTS[name]
            _collect(s.COMPONENTS[name], used)
    for each in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _collect(each, used)


def _local(schema: Json) -> Json:
    if isinstance(schema, dict):
        return {
            key: f"#/$defs/{value.rpartition('/')[2]}" if key == "$ref" else _local(value)
            for key, value in schema.items()
        }
    return [_local(each) for each in schema] if isinstance(schema, list) else schema


def _list_functions(ask: Ask) -> Tool:
    operation = next(each for each in V2 if each.tool == "list_functions")
    schema: Json = portable(tool_schema(operation)) | {"required": []}
    schema["properties"]["appId"]["description"] += " Without it, the functions of all apps are listed."
    one = _tool(ask, operation, "/v2")

    async def call(given: dict[str, Json], caller: Caller) -> Answer:
        if given.get("appId"):
            return await one.call(given, caller)
        status, body = await ask("GET", "/v2/apps", {"limit": 100}, None)
        if status >= 400:
            raise ToolError(told(status, body))
        apps = parsed(body)
        found: list[Json] = []
        for app in apps["data"]:
            status, body = await ask("GET", f"/v2/apps/{app['id']}/functions", {"limit": 100}, None)
            found += parsed(body)["data"] if status < 400 else []
        limit = given.get("limit") or 100
        page: Mapping[str, Json] = {"limit": limit, "hasMore": len(found) > limit}
        return Answer({"data": found[:limit], "metadata": apps["metadata"], "page": page})

    return Tool(
        name=one.name,
        title="List functions",
        description="Lists the functions of an app, or of all apps, with their triggers and configuration.",
        input_schema=schema,
        output_schema=one.output_schema,
        hints=one.hints,
        toolset=one.toolset,
        call=call,
    )

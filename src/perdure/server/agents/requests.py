"""What a request for a run says, checked, as the options of a run.

Fields that are not known are let pass, as the protocol does. Invariant: `body_of` is the one door for bodies: what it
gives has the resources and the request context of whoever asks (`callers.py`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from datetime import datetime
from typing import Final

from starlette.requests import Request

from perdure.model.json import InvalidJsonError, Json, decode, encode
from perdure.server.agents.callers import check_run, context, owned
from perdure.server.agents.errors import InvalidRequest
from perdure.server.bodies import check_depth, read_body
from perdure.server.envelope import ApiError

MAX_BODY: Final = 4 * 1024 * 1024
_TAKEN: Final = {
    "runId": ("run_id", (str,)),
    "maxSteps": ("max_steps", (int,)),
    "activeTools": ("active_tools", (list,)),
    "toolChoice": ("tool_choice", (str, dict)),
    "model": ("model", (str,)),
    "modelSettings": ("model_settings", (dict,)),
    "providerOptions": ("provider_options", (dict,)),
    "requireToolApproval": ("require_tool_approval", (bool,)),
    "clientTools": ("client_tools", (dict,)),
    "includeRawChunks": ("include_raw_chunks", (bool,)),
    "autoResumeSuspendedTools": ("auto_resume_suspended_tools", (bool,)),
    "instructions": ("instructions", (str,)),
    "untilIdle": ("until_idle", (bool, dict)),
    "context": ("context", (list,)),
}
"""Fields of a body: the option that each is, and the JSON types that it may have."""
_KINDS: Final = {str: "string", int: "number", list: "array", dict: "record", bool: "boolean"}
_OUTPUT: Final = {
    "schema": "schema",
    "errorStrategy": "errorStrategy",
    "fallbackValue": "fallbackValue",
    "instructions": "instructions",
    "model": "model",
}


async def body_of(request: Request) -> dict[str, Json]:
    """The body, which must be a JSON object. Raises `InvalidRequest`, and `ApiError` (413)."""
    raw = (await read_body(request.scope, request.receive, MAX_BODY)).strip()
    try:
        body: Json = decode(raw) if raw else {}
    except InvalidJsonError as error:
        raise InvalidRequest("body", str(error)) from error
    if not isinstance(body, dict):
        raise InvalidRequest("root", f"Invalid input: expected object, received {_kind(body)}")
    check_depth(body, "request body")
    if isinstance(body.get("runId"), str):
        await check_run(request, body["runId"])
    return owned(request, body)


def text(body: dict[str, Json], field: str) -> str:
    """A field that must be a text. Raises `InvalidRequest`."""
    value = body.get(field)
    if not isinstance(value, str):
        raise InvalidRequest(field, f"Invalid input: expected string, received {_kind(value)}")
    return value


def context_of(request: Request) -> dict[str, Json]:
    """The request context in a query: base64 of JSON. Raises `InvalidRequest`."""
    shown = request.query_params.get("requestContext")
    if not shown:
        return context(request, {})
    try:
        found: Json = decode(base64.b64decode(shown + "=" * (-len(shown) % 4)))
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("requestContext", "must be JSON in base64", "query parameters") from error
    return context(request, found)


def page_of(request: Request, otherwise: int, least: int = 1) -> tuple[int, int]:
    """The page that a query asks for, counted from 0, and its size, `least` or more. Raises `InvalidRequest`."""
    found = []
    for name, default, floor in (("page", 0, 0), ("perPage", otherwise, least)):
        shown = request.query_params.get(name)
        if shown is not None and not (shown.isascii() and shown.isdecimal() and len(shown) < 8 and int(shown) >= floor):
            raise InvalidRequest(name, f"must be a whole number, at least {floor}", "query parameters")
        found.append(default if shown is None else int(shown))
    return found[0], min(found[1], 1000)


def date_of(request: Request, name: str) -> int | None:
    """A date of the query, in ms. Raises `InvalidRequest`."""
    shown = request.query_params.get(name)
    if not shown:
        return None
    try:
        return int(datetime.fromisoformat(shown).timestamp() * 1000)
    except ValueError as error:
        raise InvalidRequest(name, "must be a date", "query parameters") from error


def messages_of(body: dict[str, Json]) -> Json:
    """The messages of a run. Raises `InvalidRequest`, and `ApiError` where there is nothing in them."""
    given = body.get("messages")
    if not isinstance(given, str | list) or not all(isinstance(item, str | dict) for item in given):
        raise InvalidRequest("messages", "Invalid input")
    if not given:
        raise ApiError(400, 'Argument "messages" is required')
    return given


def options_of(body: dict[str, Json]) -> dict[str, Json]:
    """The options of a run. Raises `InvalidRequest`.

    A client that brings the result of a tool of its own asks once more with the same run id. That is another run: its
    id is made of the first one's and of what was said, so that the same request again is the same run again.
    """
    options: dict[str, Json] = {}
    for field, (name, types) in _TAKEN.items():
        value = body.get(field)
        if value is None:
            continue
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            expected = " or ".join(_KINDS[each] for each in types)
            raise InvalidRequest(field, f"Invalid input: expected {expected}, received {_kind(value)}")
        options[name] = value
    if "client_tools" in options:
        options["client_tools"] = {key: _client_tool(key, each) for key, each in options["client_tools"].items()}
    if "run_id" in options and brings_results(body.get("messages")):
        digest = hashlib.sha256(encode(body["messages"])).hexdigest()[:12]
        options["run_id"] = f"{options['run_id']}.{digest}"
    if body.get("system") is not None:
        options["system"] = list(_system(body["system"]))
    if body.get("requestContext") is not None:
        if not isinstance(body["requestContext"], dict):
            raise InvalidRequest("requestContext", "Invalid input: expected record")
        options["request_context"] = body["requestContext"]
    if body.get("memory") is not None:
        options["memory"] = _memory(body["memory"])
    if body.get("structuredOutput"):
        options["structured_output"] = _output(body["structuredOutput"])
    return options


def _client_tool(key: str, given: Json) -> dict[str, Json]:
    """A tool of the client. One that it sends with an answer has a schema in the words of its own library."""
    if not isinstance(given, dict):
        raise InvalidRequest(f"clientTools.{key}", "Invalid input: expected object")
    schema: Json = given.get("inputSchema")
    known = isinstance(schema, dict) and "def" not in schema and "_def" not in schema
    return {"description": given.get("description") or "", "inputSchema": schema if known else {"type": "object"}}


def brings_results(messages: Json) -> bool:
    """Whether messages end with what came of calls that the client has carried out."""
    last: Json = messages[-1] if isinstance(messages, list) and messages else None
    return isinstance(last, dict) and last.get("role") == "tool"


def _system(given: Json) -> list[str]:
    """Texts for the system: one, several, or messages of it."""
    texts: list[str] = []
    for item in given if isinstance(given, list) else [given]:
        found = item.get("content") if isinstance(item, dict) else item
        if isinstance(found, list):
            found = "".join(part.get("text", "") for part in found if isinstance(part, dict))
        if not isinstance(found, str):
            raise InvalidRequest("system", "Invalid input")
        texts.append(found)
    return texts


def _memory(given: Json) -> dict[str, Json]:
    if not isinstance(given, dict):
        raise InvalidRequest("memory", f"Invalid input: expected object, received {_kind(given)}")
    thread = given.get("thread")
    thread_id = thread.get("id") if isinstance(thread, dict) else thread
    if not isinstance(thread_id, str) or not thread_id:
        raise InvalidRequest("memory.thread", "Invalid input")
    if not isinstance(given.get("resource"), str) or not given["resource"]:
        raise ApiError(400, "A resource ID is required when using memory. Provide memory.resource in the request body.")
    return given


def _output(given: Json) -> dict[str, Json]:
    if not isinstance(given, dict) or not isinstance(given.get("schema"), dict):
        raise InvalidRequest("structuredOutput.schema", "Invalid input: expected record")
    options = {name: given[field] for field, name in _OUTPUT.items() if given.get(field) is not None}
    if not isinstance(options.get("model", ""), str):
        raise InvalidRequest("structuredOutput.model", "Invalid input: expected string")
    if given.get("jsonPromptInjection"):
        options["mode"] = "prompted"
    return options


def _kind(value: Json) -> str:
    """What a JSON value is called in messages."""
    if value is None:
        return "undefined"
    return next((name for kind, name in _KINDS.items() if isinstance(value, kind) and type(value) is kind), "number")

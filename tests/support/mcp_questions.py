"""The tools by which the conformance suite of MCP looks at how a server asks its client, and logs."""

from __future__ import annotations

import asyncio

from perdure.model.json import Json, encode
from perdure.server.mcp.offering import Answer, Call, Caller, InputNeeded, Tool

_TEXT: Json = {"type": "string"}
_CHOICES: Json = ["option1", "option2", "option3"]
_TITLED: Json = [{"const": f"value{number}", "title": f"Choice {number}"} for number in (1, 2, 3)]
_DEFAULTS: Json = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}
_ENUMS: Json = {
    "untitledSingle": {"type": "string", "enum": _CHOICES},
    "titledSingle": {"type": "string", "oneOf": _TITLED},
    "legacyEnum": {"type": "string", "enum": ["opt1", "opt2", "opt3"], "enumNames": ["One", "Two", "Three"]},
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": _CHOICES}},
    "titledMulti": {"type": "array", "items": {"anyOf": _TITLED}},
}
_EVERY_KEYWORD: dict[str, Json] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {"$anchor": "addressDef", "type": "object", "properties": {"street": _TEXT, "city": _TEXT}},
    },
    "properties": {
        "name": _TEXT,
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": _TEXT,
        "email": _TEXT,
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def tools() -> list[Tool]:
    """The tools."""
    return [
        _tool("test_sampling", _sample, "prompt"),
        _tool("test_elicitation", _elicit, "message"),
        _tool("test_elicitation_sep1034_defaults", _form(_DEFAULTS)),
        _tool("test_elicitation_sep1330_enums", _form(_ENUMS)),
        _tool("test_tool_with_logging", _log),
        Tool(name="json_schema_2020_12_tool", description="Every keyword.", input_schema=_EVERY_KEYWORD, call=_log),
    ]


def _tool(name: str, call: Call, *arguments: str) -> Tool:
    schema: dict[str, Json] = {
        "type": "object",
        "properties": dict.fromkeys(arguments, _TEXT),
        "required": [*arguments],
    }
    return Tool(name=name, description=f"For the conformance suite: {name}.", input_schema=schema, call=call)


async def _sample(given: dict[str, Json], caller: Caller) -> Answer:
    if "answer" not in caller.responses:
        messages = [{"role": "user", "content": {"type": "text", "text": given["prompt"]}}]
        request = {"method": "sampling/createMessage", "params": {"messages": messages, "maxTokens": 100}}
        raise InputNeeded({"answer": request})
    return Answer(text=f"LLM response: {caller.responses['answer']['content']['text']}")


async def _elicit(given: dict[str, Json], caller: Caller) -> Answer:
    properties = {"username": _TEXT, "email": _TEXT}
    return await _asked(caller, given["message"], {**_object(properties), "required": ["username", "email"]})


def _form(properties: Json) -> Call:
    async def call(given: dict[str, Json], caller: Caller) -> Answer:
        return await _asked(caller, "Please fill this in", _object(properties))

    return call


def _object(properties: Json) -> dict[str, Json]:
    return {"type": "object", "properties": properties}


async def _asked(caller: Caller, message: str, schema: dict[str, Json]) -> Answer:
    if "form" not in caller.responses:
        params = {"message": message, "requestedSchema": schema}
        raise InputNeeded({"form": {"method": "elicitation/create", "params": params}})
    return Answer(text=f"User response: {encode(caller.responses['form']).decode()}")


async def _log(given: dict[str, Json], caller: Caller) -> Answer:
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await caller.log("info", line)
        await asyncio.sleep(0.05)
    return Answer(text="logged")

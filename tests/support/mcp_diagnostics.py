"""The tools, resources and prompts by which the conformance suite of MCP looks at a server's protocol."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence

from perdure.model.json import Json, encode
from perdure.server.mcp.offering import (
    Answer,
    Caller,
    Content,
    InputNeeded,
    Prompt,
    PromptArgument,
    Resource,
    Tool,
    ToolError,
)

_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
_IMAGE: Json = {"type": "image", "data": base64.b64encode(_PNG).decode(), "mimeType": "image/png"}
_AUDIO: Json = {"type": "audio", "data": base64.b64encode(b"RIFF$\0\0\0WAVE").decode(), "mimeType": "audio/wav"}
_ABOUT = "For the conformance suite."
_NONE: dict[str, Json] = {"type": "object"}
Body = Callable[[Caller], Awaitable[Answer]]


def _embedded(uri: str, media: str, text: str) -> Json:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": media, "text": text}}


def _elicit(message: str, name: str, kind: str = "string") -> Json:
    schema = {"type": "object", "properties": {name: {"type": kind}}, "required": [name]}
    return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}}


def _sample(text: str) -> Json:
    messages = [{"role": "user", "content": {"type": "text", "text": text}}]
    return {"method": "sampling/createMessage", "params": {"messages": messages, "maxTokens": 100}}


_ROOTS: Json = {"method": "roots/list", "params": {}}
_NAME = _elicit("What is your name?", "name")


def _content(*blocks: Json) -> Body:
    async def call(caller: Caller) -> Answer:
        return Answer(content=blocks)

    return call


def _asking(inputs: Mapping[str, Json], state: Json = None, said: str = "answered:") -> Body:
    """Asks until every question has its answer."""

    async def call(caller: Caller) -> Answer:
        if not all(key in caller.responses for key in inputs):
            raise InputNeeded(inputs, state)
        return Answer(text=f"{said} {encode(dict(caller.responses)).decode()}")

    return call


async def _fail(caller: Caller) -> Answer:
    raise ToolError("This tool intentionally returns an error for testing")


async def _progress(caller: Caller) -> Answer:
    for part in (0, 50, 100):
        await caller.report(part, 100, "")
        await asyncio.sleep(0.05)
    return Answer(text="done")


async def _rounds(caller: Caller) -> Answer:
    if caller.state is None:
        raise InputNeeded({"step1": _elicit("Step 1: What is your name?", "name")}, {"round": 1})
    if caller.state["round"] == 1:
        raise InputNeeded({"step2": _elicit("Step 2: What is your favorite color?", "color")}, {"round": 2})
    return Answer(text="both rounds")


async def _capable(caller: Caller) -> Answer:
    possible = {"sampling": _sample("Say something."), "elicitation": _NAME}
    inputs = {name: request for name, request in possible.items() if name in caller.capabilities}
    if inputs and not caller.responses:
        raise InputNeeded(inputs)
    return Answer(text="asked what could be asked")


_BODIES: dict[str, Body] = {
    "test_simple_text": _content("This is a simple text response for testing."),
    "test_image_content": _content(_IMAGE),
    "test_audio_content": _content(_AUDIO),
    "test_embedded_resource": _content(
        _embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")
    ),
    "test_multiple_content_types": _content(
        "Multiple content types test:", _IMAGE, _embedded("test://mixed-content-resource", "application/json", "{}")
    ),
    "test_error_handling": _fail,
    "test_tool_with_progress": _progress,
    "test_logging_tool": _content("Nothing was logged: nobody asked."),
    "test_missing_capability": _asking({"question": _sample("Anybody there?")}),
    "test_streaming_elicitation": _asking({"user_name": _NAME}),
    "test_input_required_result_elicitation": _asking({"user_name": _NAME}, said="Hello,"),
    "test_input_required_result_sampling": _asking({"capital_question": _sample("What is the capital of France?")}),
    "test_input_required_result_list_roots": _asking({"client_roots": _ROOTS}),
    "test_input_required_result_request_state": _asking(
        {"confirm": _elicit("Please confirm", "ok", "boolean")}, {"asked": True}, "state-ok"
    ),
    "test_input_required_result_multiple_inputs": _asking(
        {"user_name": _NAME, "greeting": _sample("Generate a greeting"), "client_roots": _ROOTS}, {"asked": 3}
    ),
    "test_input_required_result_multi_round": _rounds,
    "test_input_required_result_tampered_state": _asking({"confirm": _elicit("Sure?", "ok", "boolean")}, {"n": 1}),
    "test_input_required_result_capabilities": _capable,
}


def tools() -> list[Tool]:
    """The tools."""
    mirrored: dict[str, Json] = {
        "type": "object",
        "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
    }
    plain = [_tool(name, body) for name, body in _BODIES.items()]
    return [*plain, _tool("test_mirrored_header", _content("seen"), mirrored)]


def _tool(name: str, body: Body, schema: dict[str, Json] = _NONE) -> Tool:
    async def call(given: dict[str, Json], caller: Caller) -> Answer:
        return await body(caller)

    return Tool(name=name, description=f"For the conformance suite: {name}.", input_schema=schema, call=call)


def resources() -> list[Resource]:
    """The resources."""

    async def text(values: dict[str, str], caller: Caller) -> Content:
        return Content("text/plain", "This is the content of the static text resource.")

    async def binary(values: dict[str, str], caller: Caller) -> Content:
        return Content("image/png", None, _PNG)

    async def template(values: dict[str, str], caller: Caller) -> Content:
        found = {"id": values["id"], "templateTest": True, "data": f"Data for ID: {values['id']}"}
        return Content("application/json", encode(found).decode())

    return [
        Resource(uri="test://static-text", name="static-text", media_type="text/plain", read=text),
        Resource(uri="test://static-binary", name="static-binary", media_type="image/png", read=binary),
        Resource(uri="test://template/{id}/data", name="template", media_type="application/json", read=template),
    ]


def prompts() -> list[Prompt]:
    """The prompts."""

    async def simple(given: dict[str, str], caller: Caller) -> list[tuple[str, Json]]:
        return [("user", "This is a simple prompt for testing.")]

    async def arguments(given: dict[str, str], caller: Caller) -> list[tuple[str, Json]]:
        return [("user", f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'")]

    async def resource(given: dict[str, str], caller: Caller) -> list[tuple[str, Json]]:
        content = _embedded(given["resourceUri"], "text/plain", "Embedded resource content for testing.")
        return [("user", content), ("user", "Please process the embedded resource above.")]

    async def image(given: dict[str, str], caller: Caller) -> list[tuple[str, Json]]:
        return [("user", _IMAGE), ("user", "Please analyze the image above.")]

    async def asking(given: dict[str, str], caller: Caller) -> list[tuple[str, Json]]:
        if "user_context" not in caller.responses:
            raise InputNeeded({"user_context": _elicit("What context should the prompt use?", "context")})
        return [("user", f"Use this: {encode(caller.responses['user_context']).decode()}")]

    return [
        Prompt(name="test_simple_prompt", description=_ABOUT, render=simple),
        Prompt(
            name="test_prompt_with_arguments", description=_ABOUT, render=arguments, arguments=_needed("arg1", "arg2")
        ),
        Prompt(
            name="test_prompt_with_embedded_resource",
            description=_ABOUT,
            render=resource,
            arguments=_needed("resourceUri"),
        ),
        Prompt(name="test_prompt_with_image", description=_ABOUT, render=image),
        Prompt(name="test_input_required_result_prompt", description=_ABOUT, render=asking),
    ]


def _needed(*names: str) -> Sequence[PromptArgument]:
    return [PromptArgument(name, f"The argument {name}.") for name in names]

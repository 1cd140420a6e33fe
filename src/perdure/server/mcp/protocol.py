"""An offering as a server of the `mcp` package, which speaks all revisions of the protocol from one endpoint.

Arguments are checked against their schema here: what is wrong with them is told as the tool's failure, for the agent to
mend; only a tool that there is not is an error of the protocol. This module loads the package: import it late.
"""

from __future__ import annotations

import base64
import os
import re
from typing import TypeAlias
from urllib.parse import unquote

import mcp_types as types
import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from perdure.model.json import Json
from perdure.server.mcp import listening, session_handlers, skill_handlers, task_handlers
from perdure.server.mcp.listing import KeptLists
from perdure.server.mcp.offering import (
    Caller,
    Content,
    NoResourceError,
    Offering,
    Prompt,
    Resource,
    Tool,
    ToolError,
)
from perdure.server.mcp.results import block, result
from perdure.server.mcp.rounds import Rounds
from perdure.server.mcp.seals import Seals
from perdure.server.mcp.sessions import Session

Context: TypeAlias = ServerRequestContext[Json, Json]
_SHOWN = 300
_KEPT: tuple[CacheableMethod, ...] = (
    "server/discover",
    "tools/list",
    "resources/list",
    "resources/templates/list",
    "prompts/list",
)
_MAX_VALUES = 100
_NAMES = re.compile(r"\{+([\w-]+)\}+")


def build(offering: Offering, seals: Seals | None = None, pipe: Session | None = None) -> Server[Json]:
    """The server of an offering. `seals`: what questions are sealed with; `pipe`: the session where it is no HTTP."""
    if offering.skills:
        files = skill_handlers.resources(offering.skills)
        offering = msgspec.structs.replace(offering, resources=[*offering.resources, *files])
    rounds = Rounds(seals or Seals(os.urandom(32)), pipe or Session("", "", {}))
    handlers = _Handlers(offering, rounds)
    server = Server[Json](
        offering.name,
        version=offering.version,
        instructions=offering.instructions or None,
        cache_hints=dict.fromkeys(_KEPT, CacheHint(ttl_ms=offering.ttl, scope="private")),
        get_tool_input_schema=handlers.input_schema,
        on_list_tools=handlers.list_tools,
    )
    server.middleware.append(KeptLists())
    server.add_request_handler("tools/call", types.CallToolRequestParams, handlers.call_tool)
    # What has a handler is announced.
    page = types.PaginatedRequestParams
    if offering.resources:
        server.add_request_handler("resources/list", page, handlers.list_resources)
        server.add_request_handler("resources/templates/list", page, handlers.list_templates)
        server.add_request_handler("resources/read", types.ReadResourceRequestParams, handlers.read_resource)
    if offering.prompts:
        server.add_request_handler("prompts/list", page, handlers.list_prompts)
        server.add_request_handler("prompts/get", types.GetPromptRequestParams, handlers.get_prompt)
    if offering.complete is not None:
        server.add_request_handler("completion/complete", types.CompleteRequestParams, handlers.complete)
    read = handlers.read_resource if offering.resources else None
    session_handlers.add(server, rounds, read)
    listening.add(server, offering, read)
    if offering.skills:
        skill_handlers.add(server, offering.skills, offering.ttl)
    if offering.tasks is not None:
        task_handlers.add(server, offering.tasks)
    return server


class _Handlers:
    def __init__(self, offering: Offering, rounds: Rounds) -> None:
        self._tools = {each.name: each for each in offering.tools}
        self._checks = {each.name: Draft202012Validator(each.input_schema) for each in offering.tools}
        self._resources = [(each, _pattern(each.uri)) for each in offering.resources]
        self._prompts = {each.name: each for each in offering.prompts}
        self._tasks = offering.tasks
        self._rounds = rounds
        self._complete = offering.complete
        self._listed = types.ListToolsResult(tools=[_tool(each) for each in offering.tools])

    def input_schema(self, name: str) -> dict[str, Json] | None:
        tool = self._tools.get(name)
        return tool.input_schema if tool else None

    async def list_tools(self, ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return self._listed

    async def call_tool(self, ctx: Context, params: types.CallToolRequestParams) -> HandlerResult:
        tool = self._tools.get(params.name)
        if tool is None:
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
        knows_tasks = task_handlers.is_declared(ctx)
        if tool.needs_task and not knows_tasks:
            raise task_handlers.undeclared(tool.name)
        given = dict(params.arguments or {})
        wrong = best_match(self._checks[params.name].iter_errors(given))
        if wrong is not None:
            return _failed(f"Invalid arguments for {params.name}: {_told(wrong)}")
        start = tool.start if self._tasks is not None and knows_tasks else None

        async def act(caller: Caller) -> HandlerResult:
            if start is not None and self._tasks is not None:
                return task_handlers.created(await self._tasks.get(await start(given, caller)))
            return result(await tool.call(given, caller))

        try:
            return await self._rounds.carry(ctx, params, tool.name, act)
        except ToolError as error:
            return _failed(str(error))

    async def list_resources(
        self, ctx: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        return types.ListResourcesResult(
            resources=[
                types.Resource(
                    uri=each.uri,
                    name=each.name,
                    title=each.title or None,
                    description=each.description or None,
                    mime_type=each.media_type or None,
                )
                for each, _ in self._resources
                if not each.is_template
            ]
        )

    async def list_templates(
        self, ctx: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        return types.ListResourceTemplatesResult(
            resource_templates=[
                types.ResourceTemplate(
                    uri_template=each.uri,
                    name=each.name,
                    title=each.title or None,
                    description=each.description or None,
                    mime_type=each.media_type or None,
                )
                for each, _ in self._resources
                if each.is_template
            ]
        )

    async def read_resource(self, ctx: Context, params: types.ReadResourceRequestParams) -> HandlerResult:
        uri = str(params.uri)
        found = self._find(uri)
        if found is None:
            raise MCPError(types.INVALID_PARAMS, f"Resource not found: {uri}", {"uri": uri})
        resource, values = found

        async def act(caller: Caller) -> HandlerResult:
            return types.ReadResourceResult(contents=[_content(uri, await resource.read(values, caller))])

        try:
            return await self._rounds.carry(ctx, params, uri, act)
        except NoResourceError as error:
            raise MCPError(types.INVALID_PARAMS, f"Resource not found: {error}", {"uri": uri}) from error
        except ToolError as error:
            raise MCPError(types.INTERNAL_ERROR, str(error), {"uri": uri}) from error

    def _find(self, uri: str) -> tuple[Resource, dict[str, str]] | None:
        for resource, pattern in self._resources:
            match = pattern.fullmatch(uri)
            if match:
                values = map(unquote, match.groups())
                return resource, dict(zip(_NAMES.findall(resource.uri), values, strict=True))
        return None

    async def list_prompts(self, ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
        return types.ListPromptsResult(prompts=[_prompt(each) for each in self._prompts.values()])

    async def get_prompt(self, ctx: Context, params: types.GetPromptRequestParams) -> HandlerResult:
        prompt = self._prompts.get(params.name)
        if prompt is None:
            raise MCPError(types.INVALID_PARAMS, f"Unknown prompt: {params.name}")
        given = dict(params.arguments or {})
        missing = [each.name for each in prompt.arguments if each.required and not given.get(each.name)]
        if missing:
            raise MCPError(types.INVALID_PARAMS, f"prompt {prompt.name} needs {', '.join(missing)}")

        async def act(caller: Caller) -> HandlerResult:
            messages = [
                types.PromptMessage(role="assistant" if role == "assistant" else "user", content=block(content))
                for role, content in await prompt.render(given, caller)
            ]
            return types.GetPromptResult(description=prompt.description or None, messages=messages)

        try:
            return await self._rounds.carry(ctx, params, prompt.name, act)
        except ToolError as error:
            raise MCPError(types.INTERNAL_ERROR, str(error)) from error

    async def complete(self, ctx: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
        found: list[str] = []
        if self._complete is not None:
            found = await self._complete(params.argument.name, params.argument.value)
        shown = found[:_MAX_VALUES]
        completion = types.Completion(values=shown, total=len(found), has_more=len(found) > len(shown))
        return types.CompleteResult(completion=completion)


def _pattern(uri: str) -> re.Pattern[str]:
    """What a URI with placeholders stands for: each is one part between slashes."""
    parts = _NAMES.split(uri)
    return re.compile("".join("([^/]+)" if place % 2 else re.escape(each) for place, each in enumerate(parts)))


def _tool(tool: Tool) -> types.Tool:
    return types.Tool(
        name=tool.name,
        title=tool.title or None,
        description=tool.description,
        input_schema=tool.input_schema,
        output_schema=tool.output_schema,
        annotations=types.ToolAnnotations.model_validate(dict(tool.hints)) if tool.hints else None,
    )


def _prompt(prompt: Prompt) -> types.Prompt:
    arguments = [
        types.PromptArgument(name=each.name, description=each.description or None, required=each.required)
        for each in prompt.arguments
    ]
    return types.Prompt(
        name=prompt.name, title=prompt.title or None, description=prompt.description or None, arguments=arguments
    )


def _failed(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=True)


def _told(error: ValidationError) -> str:
    where = ".".join(str(each) for each in error.absolute_path)
    message: str = error.message
    return f"{where}: {message[:_SHOWN]}" if where else message[:_SHOWN]


def _content(uri: str, content: Content) -> types.TextResourceContents | types.BlobResourceContents:
    media = content.media_type or None
    if content.text is not None:
        return types.TextResourceContents(uri=uri, mime_type=media, text=content.text)
    return types.BlobResourceContents(uri=uri, mime_type=media, blob=base64.b64encode(content.data).decode())

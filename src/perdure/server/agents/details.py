"""Agents and their tools, as clients of the agents protocol are told of them.

Schemas are texts, `{"json": <JSON Schema>}`. What is not known is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from perdure.agents.declared import DeclaredAgent
from perdure.agents.models import Models
from perdure.agents.tools import Tool
from perdure.model.json import Json, encode
from perdure.server.agents.registry import ServedAgent

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_ALWAYS: Final = {"skills": [], "workspaceTools": [], "browserTools": [], "hasBrowser": False}


async def agent_details(
    served: ServedAgent, context: dict[str, Json], *, listed: bool = False, partial: bool = False
) -> dict[str, Json]:
    """An agent; `listed` among others, `partial` without schemas."""
    found, chosen = served.declared, served.selected
    stored = None if chosen is None else chosen.stored
    of_data = chosen is not None and not chosen.in_code
    unset: dict[str, Json] = {"modelSettings": {}} if of_data else {}
    shown: dict[str, Json] = {"id": served.id} if listed else {}
    shown |= {
        "name": served.name,
        "description": "" if found is None else found.description,
        "metadata": (None if stored is None else stored.metadata) or {},
        "instructions": "" if found is None else await _instructions(found, context),
        "tools": {} if found is None else {key: tool_details(each, partial) for key, each in found.tools.items()},
        "agents": {}
        if found is None
        else {key: {"id": each.id, "name": each.name} for key, each in found.agents.items()},
        "workflows": {} if found is None else _workflows(found, listed),
        **_ALWAYS,
        "inputProcessors": [] if found is None else list(map(_processor, found.input_processors)),
        "outputProcessors": [] if found is None else list(map(_processor, found.output_processors)),
        **({} if found is None else _model(found.models)),
        "supportsMemory": True,
        "defaultOptions": {**unset, **({} if found is None else plain_options(found.default_options))},
        "defaultGenerateOptionsLegacy": {},
        "defaultStreamOptionsLegacy": {},
        "source": "stored" if of_data else "code",
    }
    if stored is not None:
        shown["status"] = stored.status
    if of_data and stored is not None and stored.metadata is None:
        del shown["metadata"]
    if not listed:
        return shown
    active = {} if stored is None or stored.active is None else {"activeVersionId": stored.active.id}
    return {**shown, **active, "hasDraft": stored is not None and stored.has_draft}


def tool_details(tool: Tool, partial: bool = False) -> dict[str, Json]:
    """A tool."""
    shown: dict[str, Json] = {"id": tool.name, "description": tool.description}
    if not partial:
        shown["inputSchema"] = _schema(tool.input_schema)
        if tool.output_schema is not None:
            shown["outputSchema"] = _schema(tool.output_schema)
    # Whoever approves may edit the arguments, where the tool says so; clients of the protocol do not know of it.
    edited = {"editArgs": True} if tool.edit_args else {}
    return {**shown, "requireApproval": bool(tool.requires_approval), **edited}


def _schema(schema: dict[str, Json]) -> str:
    return encode({"json": {"$schema": _DIALECT, **schema}}).decode()


async def _instructions(agent: DeclaredAgent, context: dict[str, Json]) -> Json:
    texts = await agent.get_instructions(context)
    if len(texts) < 2:
        return texts[0] if texts else ""
    return [{"role": "system", "content": each} for each in texts]


def _workflows(agent: DeclaredAgent, listed: bool) -> dict[str, Json]:
    steps: dict[str, Json] = {} if listed else {"steps": {}}
    return {key: {"name": function.config.name or function.id, **steps} for key, function in agent.workflows.items()}


def _processor(found: Json) -> dict[str, Json]:
    name = getattr(found, "id", None) or type(found).__name__
    return {"id": name, "name": getattr(found, "name", None) or name}


def _model(models: Models) -> dict[str, Json]:
    shown: list[dict[str, Json]] = []
    for entry in models.entries:
        provider, _, model = entry.model.name.partition("/")
        named = {"modelId": model or provider, "provider": provider, "modelVersion": "v2"}
        shown.append({"id": entry.id, "model": named, "maxRetries": entry.max_retries, "enabled": True})
    first = shown[0]["model"]
    return first if len(shown) == 1 else {**first, "modelList": shown}


def plain_options(options: Mapping[str, Json]) -> dict[str, Json]:
    """The options that are data; functions are nobody's business elsewhere."""
    kept = {key: value for key, value in options.items() if _is_data(value)}
    return {_camel(key): value for key, value in kept.items()}


def _is_data(value: Json) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_data(each) for key, each in value.items())
    if isinstance(value, list):
        return all(map(_is_data, value))
    return value is None or isinstance(value, str | int | float | bool)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(each.capitalize() for each in rest)

"""The options of a run as a client gives them: snake_case there, and as the protocol spells them on the wire."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final, TypedDict

from perdure.model.json import Json, encode

_CAMEL: Final = {
    "run_id": "runId",
    "max_steps": "maxSteps",
    "active_tools": "activeTools",
    "tool_choice": "toolChoice",
    "model_settings": "modelSettings",
    "provider_options": "providerOptions",
    "require_tool_approval": "requireToolApproval",
    "structured_output": "structuredOutput",
    "request_context": "requestContext",
    "auto_resume_suspended_tools": "autoResumeSuspendedTools",
    "include_raw_chunks": "includeRawChunks",
    "until_idle": "untilIdle",
    "max_idle_ms": "maxIdleMs",
}


class TurnOptions(TypedDict, total=False):
    """The options of a run, and of what goes on with one.

    `memory` is `{"thread": ..., "resource": ...}`; `structured_output` is `{"schema": <JSON Schema>, ...}`. The others
    are those of `Agent.stream`, with the same names.
    """

    memory: dict[str, Json]
    instructions: str
    system: Json
    context: list[Json]
    max_steps: int
    active_tools: list[str]
    tool_choice: Json
    model: str
    model_settings: dict[str, Json]
    provider_options: dict[str, Json]
    require_tool_approval: bool
    structured_output: dict[str, Json]
    request_context: dict[str, Json]
    auto_resume_suspended_tools: bool
    include_raw_chunks: bool
    until_idle: Json
    max_idle_ms: int


class RunOptions(TurnOptions, total=False):
    """The options of a run that begins; `run_id`: the id that it is to have."""

    run_id: str


def as_body(options: Mapping[str, Json]) -> dict[str, Json]:
    """Options as they are sent; what is None is left out.

    >>> as_body({"max_steps": 3, "instructions": None})
    {'maxSteps': 3}
    """
    return {_CAMEL.get(name, name): value for name, value in options.items() if value is not None}


def as_query(**fields: Json) -> dict[str, Json]:
    """Fields of a query; a request context is JSON in base64 there.

    >>> as_query(agentId="desk", requestContext=None)
    {'agentId': 'desk'}
    """
    found = {name: value for name, value in fields.items() if value is not None}
    if "requestContext" in found:
        found["requestContext"] = base64.b64encode(encode(found["requestContext"])).decode()
    return found


def paged(
    page: int | None, per_page: int | None, order_by: str | None = None, direction: str | None = None
) -> dict[str, Json]:
    """Which page of a list is asked for, and in which order."""
    return {"page": page, "perPage": per_page, "orderBy[field]": order_by, "orderBy[direction]": direction}

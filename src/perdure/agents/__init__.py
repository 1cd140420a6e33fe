"""Durable agents: instructions, a model, tools and memory, whose runs survive.

Each name is loaded when it is first used, so that whoever needs one part does not pay for all.

>>> from perdure.agents import Agent, tool
>>> Agent("helper", model="openai/gpt-5.5").id
'helper'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from perdure.agents.agent import Agent, AgentFailedError
    from perdure.agents.background.config import BackgroundConfig
    from perdure.agents.chunks import Chunk
    from perdure.agents.context import ToolContext, ToolError
    from perdure.agents.durable import (
        DurableAgent,
        create_durable_agent,
        create_evented_agent,
        create_inngest_agent,
        is_durable_agent,
        is_evented_agent,
        is_inngest_agent,
    )
    from perdure.agents.mcp_tools import McpToolset
    from perdure.agents.memory import Memory
    from perdure.agents.messages import Message
    from perdure.agents.options import StructuredOutput
    from perdure.agents.processors import Processor
    from perdure.agents.results import AgentRun, Result, RunOutput
    from perdure.agents.scoring import Judged, Scorer
    from perdure.agents.tools import Background, Tool, client_tool, tool

_HOMES: Final = {
    "Agent": "agent",
    "AgentFailedError": "agent",
    "AgentRun": "results",
    "Background": "tools",
    "BackgroundConfig": "background.config",
    "Chunk": "chunks",
    "DurableAgent": "durable",
    "Judged": "scoring",
    "McpToolset": "mcp_tools",
    "Memory": "memory",
    "Message": "messages",
    "Processor": "processors",
    "Result": "results",
    "RunOutput": "results",
    "Scorer": "scoring",
    "StructuredOutput": "options",
    "Tool": "tools",
    "ToolContext": "context",
    "ToolError": "context",
    "client_tool": "tools",
    "create_durable_agent": "durable",
    "create_evented_agent": "durable",
    "create_inngest_agent": "durable",
    "is_durable_agent": "durable",
    "is_evented_agent": "durable",
    "is_inngest_agent": "durable",
    "tool": "tools",
}

__all__ = [
    "Agent",
    "AgentFailedError",
    "AgentRun",
    "Background",
    "BackgroundConfig",
    "Chunk",
    "DurableAgent",
    "Judged",
    "McpToolset",
    "Memory",
    "Message",
    "Processor",
    "Result",
    "RunOutput",
    "Scorer",
    "StructuredOutput",
    "Tool",
    "ToolContext",
    "ToolError",
    "client_tool",
    "create_durable_agent",
    "create_evented_agent",
    "create_inngest_agent",
    "is_durable_agent",
    "is_evented_agent",
    "is_inngest_agent",
    "tool",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = found
    return found

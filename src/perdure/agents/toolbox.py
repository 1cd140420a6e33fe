"""The toolbox: all tools of one run under the names that its model calls them by.

Most are known from the start: the agent's own, sub-agents, workflows, and those of the caller. The rest come from
toolsets and from the memory, and are looked up inside a step, for that may take input and output.
"""

from __future__ import annotations

import inspect
from typing import Final, Protocol

from perdure.agents.context import ToolContext
from perdure.agents.declared import AGENT_PREFIX, WORKFLOW_PREFIX, DeclaredAgent
from perdure.agents.models import ToolSpec
from perdure.agents.options import Closures, RunOptions
from perdure.agents.schemas import Schema
from perdure.agents.tools import Tool, tools_by_name
from perdure.model.json import Json
from perdure.sdk.function import Function

AGENT_SCHEMA: Final[Schema] = {
    "type": "object",
    "properties": {
        "prompt": {"type": "string", "description": "What the agent is to do."},
        "instructions": {"type": "string", "description": "More about how."},
        "maxSteps": {"type": "integer", "minimum": 1},
    },
    "required": ["prompt"],
}
WORKFLOW_SCHEMA: Final[Schema] = {
    "type": "object",
    "properties": {"inputData": {"type": "object", "description": "What the workflow is given."}},
    "required": ["inputData"],
}


class Toolset(Protocol):
    """A source of tools, an MCP server for instance."""

    async def tools(self) -> dict[str, Tool]:
        """Its tools, by the names that models call them by."""
        ...


class ToolBox:
    """The tools of a run of `agent` with these options."""

    def __init__(self, agent: DeclaredAgent, options: RunOptions, closures: Closures) -> None:
        self._agent = agent
        self._known: dict[str, Tool] = {**agent.tools, **closures.tools}
        self._agents = {f"{AGENT_PREFIX}{key}": key for key in agent.agents}
        self._workflows = {f"{WORKFLOW_PREFIX}{key}": key for key in agent.workflows}
        for name, key in self._agents.items():
            self._known[name] = _handed_over(name, _about(agent.agents[key]), AGENT_SCHEMA)
        for name, key in self._workflows.items():
            function = agent.workflows[key]
            about = inspect.getdoc(function.handler) or function.config.name
            self._known[name] = _handed_over(name, about, WORKFLOW_SCHEMA)
        self._known |= options.client_tools_by_name()
        names = dict.fromkeys([*agent.default_toolsets, *options.toolsets])
        self._toolsets: list[Toolset] = [agent.toolsets[name] for name in names if name in agent.toolsets]
        self._toolsets += closures.toolsets
        self._looked_up: dict[str, Tool] | None = None
        self._recalled: dict[str, Tool] = {}

    def known(self, name: str) -> Tool | None:
        """The tool of this name, where it is known without looking further."""
        return self._known.get(name) or self._recalled.get(name) or (self._looked_up or {}).get(name)

    def agent_key(self, name: str) -> str | None:
        """The key of the sub-agent that this tool stands for."""
        return self._agents.get(name)

    def workflow(self, name: str) -> Function[Json] | None:
        """The function that this tool stands for."""
        key = self._workflows.get(name)
        return None if key is None else self._agent.workflows[key]

    def recall(self, tools: list[Tool]) -> None:
        """Adds the tools of the memory."""
        self._recalled = {found.name: found for found in tools}

    async def find(self, name: str) -> Tool | None:
        """The tool of this name, wherever it is. Inside a step."""
        found = self.known(name)
        if found is None and self._toolsets:
            found = (await self._look_up()).get(name)
        return found

    async def all(self) -> dict[str, Tool]:
        """All tools. Inside a step."""
        looked_up = await self._look_up() if self._toolsets else {}
        return {**looked_up, **self._recalled, **self._known}

    async def specs(self, active: list[str] | None) -> list[ToolSpec]:
        """The tools as the model is told of them; only those that are active, where that is said. Inside a step."""
        tools = await self.all()
        return [
            ToolSpec(name, found.description, found.input_schema)
            for name, found in tools.items()
            if active is None or name in active
        ]

    async def _look_up(self) -> dict[str, Tool]:
        if self._looked_up is None:
            found: dict[str, Tool] = {}
            for toolset in self._toolsets:
                found |= await _tools_of(toolset)
            self._looked_up = found
        return self._looked_up


async def _tools_of(toolset: Json) -> dict[str, Tool]:
    listed = toolset.tools() if hasattr(toolset, "tools") else toolset
    return tools_by_name(await listed if inspect.isawaitable(listed) else listed)


def _about(agent: DeclaredAgent) -> str:
    return agent.description or f"Hands a task over to the agent {agent.name}."


def _handed_over(name: str, description: str, schema: Schema) -> Tool:
    return Tool(name, description, schema, _never)


def _never(args: dict[str, Json], ctx: ToolContext) -> Json:
    """Sub-agents and workflows are child runs: the loop hands them over, it does not call them."""
    raise RuntimeError(f"{ctx.tool_name} is not called like a tool")

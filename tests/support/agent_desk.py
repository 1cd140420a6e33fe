"""An agent with tools of all kinds, for the tests of durable agents."""

from __future__ import annotations

from perdure.agents.agent import Agent
from perdure.agents.context import ToolContext
from perdure.agents.tools import Tool, tool
from perdure.model.json import Json
from perdure.testing import ScriptedModel


class Desk:
    """An agent with tools, and how often each was carried out."""

    def __init__(self, model: ScriptedModel | None = None) -> None:
        self.done: list[tuple[str, Json]] = []
        self.model = model or ScriptedModel()
        self.agent = Agent("desk", model=self.model, instructions="Help.", tools=self._tools(), version="1")

    def _tools(self) -> list[Tool]:
        @tool
        def add(a: int, b: int) -> int:
            """Adds."""
            self.done.append(("add", [a, b]))
            return a + b

        @tool(requires_approval=True, edit_args=True)
        def refund(cents: int) -> dict[str, int]:
            """Pays back."""
            self.done.append(("refund", cents))
            return {"refunded": cents}

        @tool(requires_approval=True, approval_timeout="1s")
        def hurry(n: int) -> int:
            """Must be approved soon."""
            self.done.append(("hurry", n))
            return n

        @tool(resume_schema={"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]})
        def unlock(door: str, ctx: ToolContext) -> str:
            """Asks for a code."""
            if ctx.resume_data is None:
                ctx.suspend({"door": door})
            self.done.append(("unlock", [door, ctx.resume_data["code"]]))
            return f"{door} is open"

        @tool
        def broken() -> str:
            """Fails."""
            raise ValueError("no paper")

        return [add, refund, hurry, unlock, broken]

"""Functions as tools: `run_<function>` starts one with the arguments as the data of its event, and gives its output.

They are offered when they are asked for, as the toolset `run`. For a client that knows tasks the run is one; another
waits for it, and is told its id if it takes longer.
"""

from __future__ import annotations

import re

from perdure.model.json import Json
from perdure.server.mcp.asking import Ask
from perdure.server.mcp.following import ENDED, start, until_ended
from perdure.server.mcp.offering import Answer, Caller, Tool, ToolError
from perdure.server.mcp.runs import output

TOOLSET = "run"
_WAIT = 30.0
"""How long a client that knows no tasks is kept waiting (seconds)."""
_DATA: dict[str, Json] = {
    "type": "object",
    "description": "The data of the event that the function gets.",
    "additionalProperties": True,
}


def function_tool(
    ask: Ask,
    slug: str,
    name: str = "",
    *,
    description: str = "",
    input_schema: dict[str, Json] | None = None,
    needs_task: bool = False,
    wait: float = _WAIT,
) -> Tool:
    """A tool that runs a function."""

    async def begin(given: dict[str, Json], caller: Caller) -> str:
        _, run_id = await start(ask, slug, {"data": given})
        if run_id is None:
            raise ToolError(f"Flow control holds {slug} back: try again later.")
        return run_id

    async def call(given: dict[str, Json], caller: Caller) -> Answer:
        run_id = await begin(given, caller)
        (found,) = await until_ended(ask, [run_id], wait, 0.5, caller)
        if found["status"] in ENDED:
            return output(run_id, found)
        return Answer({**found, "message": "It has not ended yet: ask get_run_status."})

    return Tool(
        name=name or f"run_{re.sub(r'[^A-Za-z0-9_-]', '_', slug)}"[:64],
        title=f"Run {slug}",
        description=description or f"Runs the function {slug}, durably, and gives its output.",
        input_schema=input_schema or _DATA,
        hints={"readOnlyHint": False, "openWorldHint": True},
        toolset=TOOLSET,
        call=call,
        start=begin,
        needs_task=needs_task,
    )

"""Functions as tools: `run_<function>` starts one with the arguments as the data of its event, and gives its output.

They are offered when they are asked for, as the toolset `run`. For a client that knows tasks the run is one; another
waits for it, and is told its id if it takes longer. What a run asks meanwhile is asked of the person behind the client.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from perdure.model.json import Json
from perdure.server.mcp.asking import Ask
from perdure.server.mcp.following import ENDED, start, until_ended
from perdure.server.mcp.offering import Answer, Caller, InputNeeded, Tasks, Tool, ToolError
from perdure.server.mcp.runs import output

TOOLSET = "run"
WAIT = 30.0
"""How long a client that knows no tasks is kept waiting (seconds)."""
_DATA: dict[str, Json] = {
    "type": "object",
    "description": "The data of the event that the function gets.",
    "additionalProperties": True,
}
_OUTPUT: dict[str, Json] = {"type": "object", "description": "The output; one that is no object is its `result`."}


def function_tool(
    ask: Ask,
    tasks: Tasks,
    slug: str,
    name: str = "",
    *,
    description: str = "",
    input_schema: dict[str, Json] | None = None,
    needs_task: bool = False,
    wait: float | None = None,
) -> Tool:
    """A tool that runs a function; `tasks` knows what its runs ask."""

    async def begin(given: dict[str, Json], caller: Caller) -> str:
        _, run_id = await start(ask, slug, {"data": given})
        if run_id is None:
            raise ToolError(f"Flow control holds {slug} back: try again later.")
        return run_id

    async def call(given: dict[str, Json], caller: Caller) -> Answer:
        run_id = await _answered(tasks, caller) or await begin(given, caller)
        look = _questions(tasks) if caller.can_be_asked else None
        (found,) = await until_ended(ask, [run_id], WAIT if wait is None else wait, 0.5, caller, look)
        if found["status"] in ENDED:
            return output(run_id, found)
        return Answer({**found, "message": "It has not ended yet: ask get_run_status."})

    return Tool(
        name=name or f"run_{re.sub(r'[^A-Za-z0-9_-]', '_', slug)}"[:64],
        title=f"Run {slug}",
        description=description or f"Runs the function {slug}, durably, and gives its output.",
        input_schema=input_schema or _DATA,
        output_schema=_OUTPUT,
        hints={"readOnlyHint": False, "openWorldHint": True},
        toolset=TOOLSET,
        call=call,
        start=begin,
        needs_task=needs_task,
    )


async def _answered(tasks: Tasks, caller: Caller) -> str:
    """The run that asked what the caller answers now, with the answers given to it; "" where there is none."""
    state = caller.state
    run_id = str(state["runId"]) if isinstance(state, dict) and "runId" in state else ""
    if run_id:
        await tasks.update(run_id, caller.responses)
    return run_id


def _questions(tasks: Tasks) -> Callable[[str], Awaitable[None]]:
    async def look(run_id: str) -> None:
        """Raises `InputNeeded` if a run asks something."""
        task = await tasks.get(run_id)
        if task.status == "input_required":
            raise InputNeeded(task.inputs, {"runId": run_id})

    return look

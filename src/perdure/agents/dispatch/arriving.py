"""The results of background tasks come back into the loop.

At the start of each `llm:<n>` the run looks at its open tasks; those that have ended are taken in: their calls get
their real results, and the model is told. With `until_idle` a run whose model is done says `finish` (marked
`backgroundTaskPending`), waits for its tasks, and then goes on with another turn.

Invariant: what was taken in is recorded by the turn, so that a replay takes in the same.
"""

from __future__ import annotations

import asyncio

from perdure.agents.background import told
from perdure.agents.background.config import max_idle
from perdure.agents.chunks import Chunk
from perdure.agents.dispatch import keeping
from perdure.agents.inputs import read_messages
from perdure.agents.ports import Arrived
from perdure.agents.run import Run
from perdure.agents.state import Turn
from perdure.engine.agents.records import SETTLED
from perdure.model.json import Json


def open_tasks(run: Run) -> dict[str, str]:
    """The tasks of a run that it knows no end of: their ids by tool call."""
    return {
        call: outcome["task"]["taskId"]
        for call, outcome in run.state.outcomes.items()
        if outcome.get("task", {}).get("status") == "running"
        and call not in run.state.reported
        and call not in run.state.fresh
    }


async def take_in(run: Run, turn: Turn) -> list[Chunk]:
    """Takes in the tasks that have ended: for the turn's record and its prompt. What is to be said of them."""
    run.state.fresh = {}
    tasks = run.services.tasks
    if tasks is None:
        return []
    chunks: list[Chunk] = []
    for call, task_id in open_tasks(run).items():
        task = await tasks.task(task_id)
        if task is None or task.status not in SETTLED:
            continue
        outcome = keeping.outcome_of(task, run.box.known(task.tool_name))
        turn.tasks.append({"toolCallId": call, "toolName": task.tool_name, "outcome": outcome})
        run.state.fresh[call] = outcome
        chunks += [told.running(task), *await tasks.outputs(task_id), told.ended(task)]
    if turn.tasks:
        given = {"id": f"{run.run_id}-b{turn.number}", "role": "user", "content": told.directive(turn.tasks)}
        messages = read_messages(given, new_id=str, now=run.request.started_at)
        turn.arrived += [Arrived(message, transient=True) for message in messages]
    return chunks


async def reconcile(run: Run) -> None:
    """Puts into the thread what has ended while this turn was made: its messages were saved without."""
    tasks = run.services.tasks
    if tasks is None:
        return
    for call, task_id in open_tasks(run).items():
        task = await tasks.task(task_id)
        if task is not None:
            await keeping.keep(run.agent, task, run.state.message_of(call))


def reconciled(run: Run, turn: Turn) -> list[Turn]:
    """The earlier turns that a turn has changed: their calls have their real results now."""
    calls = {item["toolCallId"] for item in turn.tasks}
    return [each for each in run.state.turns[:-1] if calls & {call.tool_call_id for call in each.calls}]


def holds(run: Run) -> bool:
    """Whether the run goes on for the sake of its tasks when its model is done."""
    return run.services.tasks is not None and max_idle(run.options.until_idle) is not None and bool(open_tasks(run))


async def until_settled(run: Run, number: int) -> bool:
    """Waits, after turn `number`, until no task of the run goes on; whether one has ended."""
    tasks, limit = run.services.tasks, max_idle(run.options.until_idle)
    assert tasks is not None and limit is not None
    waits = [tasks.settled(task_id, f"bg:{task_id}@{number}", limit) for task_id in open_tasks(run).values()]
    found: list[bool] = await asyncio.gather(*waits)
    return any(found)


def pending(said: list[Chunk]) -> list[Chunk]:
    """The end of a turn after which the run goes on: its `finish` says so."""
    for item in said:
        if item.type == "finish":
            payload: dict[str, Json] = item["payload"]
            payload["backgroundTaskPending"] = True
    return said

"""The loop of an agent: the model is asked, its tool calls are carried out, and it is asked again.

There is one loop, over a `Journal`; whether that is a durable run or one of this process it does not know. Its steps
have fixed ids:

    llm:<n>              the n-th model call; the first says `start`, the last `finish`
    tool:<id>            one tool call; carried out again after it suspended: `tool:<id>@1`
    ask:<id> approve:<id>  a question about a call, and the wait for its decision (the journal's own)
    tool:<id>/<name>     a step of a tool's own
    sub:<id>             a child run: a workflow, or a sub-agent, followed on by `sub:<id>@1` after its questions
    bg:<task>            a wait for a background task
    finish               the end, where it cannot be in `llm:<n>`

Invariants: between two calls of the journal nothing is awaited; the state is a fold over what the steps recorded.
"""

from __future__ import annotations

from perdure.agents import said
from perdure.agents.calls import ToolTurn
from perdure.agents.declared import DeclaredAgent
from perdure.agents.dispatch.arriving import until_settled
from perdure.agents.ending import finish
from perdure.agents.journal import Journal
from perdure.agents.ports import Services
from perdure.agents.run import Run
from perdure.agents.state import RunInput, RunResult, Turn
from perdure.agents.turn import model_turn
from perdure.model.errors import StepError


async def run_loop(
    agent: DeclaredAgent, journal: Journal, request: RunInput, services: Services | None = None
) -> RunResult:
    """Runs an agent to its end. Errors of models and tools are part of the result; nothing but defects is raised."""
    run = Run(agent, journal, request, services or Services())
    number = 0
    while True:
        try:
            turn = await model_turn(run, number)
        except StepError as error:
            turn = Turn(number, error=said.told_error(error), reason="error")
        run.state.add(turn)
        if turn.done:
            return run.state.result(turn.reason or "other")
        reason = turn.reason
        if turn.waiting:
            # The model is done, but tasks of the run go on in the background: what comes of them is a turn of its own.
            reason = None if await until_settled(run, number) else turn.reason or "stop"
        elif reason is None and not turn.late and turn.retry is None:
            reason = await _after_tools(run, turn)
        if reason is not None:
            return await finish(run, reason)
        number += 1


async def _after_tools(run: Run, turn: Turn) -> str | None:
    """Carries out the calls of a turn; why the run ends after them, None where it goes on."""
    if await ToolTurn(run, turn).carry_out():
        return "tool-calls"
    return "max-steps" if run.is_last(turn.number) else None

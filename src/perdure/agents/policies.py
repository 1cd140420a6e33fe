"""Policies: what they are told of a run. `stop_when`, `prepare_step` and `on_iteration_complete` decide with it.

A policy is called inside a step, and what it decides shows in what the step records, so it may look anywhere.
"""

from __future__ import annotations

import msgspec

from perdure.agents.run import Run
from perdure.agents.state import RunState, Turn
from perdure.model.json import Json


class StepInfo(msgspec.Struct):
    """Where a run stands before, or after, a step; `number` counts steps from 0."""

    number: int
    max_steps: int
    run_id: str
    agent_id: str
    agent_name: str
    thread_id: str | None
    resource_id: str | None
    request_context: dict[str, Json]

    @classmethod
    def of(cls, run: Run, number: int) -> StepInfo:
        """Of this run."""
        request = run.request
        return cls(
            number,
            run.max_steps,
            run.run_id,
            run.agent.id,
            run.agent.name,
            request.thread_id,
            request.resource_id,
            run.options.request_context,
        )


class StepSummary(msgspec.Struct):
    """A step that is over. `tool_calls` are `{toolCallId, toolName, args}`, `tool_results` have `result` or `error`."""

    number: int
    text: str
    finish_reason: str
    tool_calls: list[dict[str, Json]]
    tool_results: list[dict[str, Json]]


class Iteration(msgspec.Struct):
    """An iteration that is over, as `on_iteration_complete` is told; `iteration` counts from 1."""

    iteration: int
    max_iterations: int
    is_final: bool
    step: StepSummary
    info: StepInfo


def steps_so_far(state: RunState) -> list[StepSummary]:
    """The steps that are over."""
    return [summary(state, turn) for turn in state.turns]


def summary(state: RunState, turn: Turn) -> StepSummary:
    """One step."""
    calls = [{"toolCallId": call.tool_call_id, "toolName": call.tool_name, "args": call.args} for call in turn.calls]
    results = [{**call, **state.outcomes[call["toolCallId"]]} for call in calls if call["toolCallId"] in state.outcomes]
    answer = turn.answer
    return StepSummary(
        turn.number,
        "" if answer is None else answer.text,
        "other" if answer is None else answer.finish_reason,
        calls,
        results,
    )

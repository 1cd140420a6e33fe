"""The backend: each durable unit of pydantic-ai is a step, and says what it does in the stream of its run.

A failure of a model is a failure of the attempt, with the pause that the provider asks for; what will fail again is not
tried again. The library underneath retries nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypedDict

from pydantic_ai import exceptions as errors
from pydantic_ai.durable_exec import (
    CallableOperationBackend,
    DurableOperationConfig,
    DurableOperationId,
    ModelRequestId,
    ToolsetCallToolId,
    record_durable_unit,
)

from perdure.agents.journal import StepScope
from perdure.agents.models.asking import classify
from perdure.agents.models.failure import ModelUnavailableError
from perdure.agents.models.fallback import FIRST_DELAY, LONGEST_DELAY
from perdure.agents.pydantic_ai.driving import Driving, driving
from perdure.agents.pydantic_ai.naming import StepNames, tool_call_id
from perdure.agents.pydantic_ai.telling import answer_of, listen, speaking, tell_outcome
from perdure.model.config import Duration
from perdure.model.durations import parse_duration
from perdure.model.json import Json

MODEL_RETRIES: Final = 2
"""The retries of a model call that says nothing else."""


class UnitOptions(TypedDict, total=False):
    """How a unit is attempted: as `step.with_` takes it. Without `retries`, those of the function."""

    retries: int
    timeout: Duration


class StepBackend(CallableOperationBackend[UnitOptions]):
    """Carries units out as steps. `unwrap` raises what a recorded tool call stands for."""

    def __init__(
        self,
        *,
        config: DurableOperationConfig[UnitOptions],
        model: Callable[[], tuple[str, str]],
        unwrap: Callable[[Json], object],
    ) -> None:
        super().__init__(namer=StepNames(), config=config)
        self._model = model
        self._unwrap = unwrap

    async def execute(
        self,
        *,
        operation_id: DurableOperationId,
        name: str,
        body: Callable[[], Awaitable[object]],
        cache_key: tuple[object, ...],
        config: UnitOptions,
    ) -> object:
        """One unit. Raises `StepError` when no attempt is left."""
        run = driving.get()
        if run is None:
            return await body()
        call_id = tool_call_id(operation_id, cache_key)
        step_id, number = run.step_id(name, call_id)
        executed = False

        async def attempt(scope: StepScope) -> Json:
            nonlocal executed
            executed = True
            if isinstance(operation_id, ModelRequestId):
                return await self._ask(run, number, body, scope)
            payload = await body()
            if isinstance(operation_id, ToolsetCallToolId):
                tell_outcome(run, _call(call_id, cache_key), payload, self._unwrap)
            return payload

        timeout = config.get("timeout")
        payload = await run.recorder.step(
            step_id,
            attempt,
            retries=config.get("retries"),
            timeout=None if timeout is None else parse_duration(timeout),
        )
        record_durable_unit(executed=executed)
        if isinstance(operation_id, ModelRequestId):
            run.answers.append(answer_of(payload))
        return payload

    async def _ask(self, run: Driving, number: int, body: Callable[[], Awaitable[object]], scope: StepScope) -> Json:
        for one in run.said_before(number):
            run.recorder.push(one)
        model, provider = self._model()
        token = speaking.set(listen(run.recorder, model, provider))
        try:
            return await body()
        except (errors.ModelAPIError, errors.UnexpectedModelBehavior) as error:
            failure = classify(error, f"{provider}/{model}")
            if isinstance(failure, ModelUnavailableError) and not failure.asked_for:
                failure.retry_after = min(FIRST_DELAY * 2.0**scope.attempt, LONGEST_DELAY)
            raise failure from None
        finally:
            speaking.reset(token)


def _call(call_id: str | None, cache_key: tuple[object, ...]) -> dict[str, Json]:
    """A tool call as chunks tell it; a unit's key is the tool's name and its arguments, and then what else there is."""
    return {"toolCallId": call_id, "toolName": cache_key[0], "args": cache_key[1]}

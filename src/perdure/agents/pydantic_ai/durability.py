"""`PerdureDurability`: the capability that makes an agent of pydantic-ai durable inside of perdure functions.

    agent = Agent("openai:gpt-5.5", name="clerk", capabilities=[PerdureDurability()])

    @app.function("answer", trigger="shop/question.asked")
    async def answer(ctx: Context) -> str:
        return (await agent.run(ctx.event.data["question"])).output

Each model call is a step `llm:<n>`, each tool call a step `tool:<toolCallId>`; what they say goes to the stream of the
run, and is taken back with an attempt that fails. Outside of a function, and inside of a step, the agent runs as ever.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Literal, cast

from pydantic_ai import ToolsetTool
from pydantic_ai.agent import EventStreamHandler
from pydantic_ai.agent.abstract import AbstractAgent
from pydantic_ai.capabilities.abstract import WrapRunHandler
from pydantic_ai.durable_exec import (
    JSON_CODEC,
    BaseDurabilityCapability,
    CallToolResult,
    DurabilityEngineSpec,
    DurableOperationId,
    RoleBasedOperationConfig,
    ToolsetKind,
    conversation_id_from_run_id,
    external_event_scope,
    replay_scope,
)
from pydantic_ai.messages import AgentStreamEvent
from pydantic_ai.models import Model
from pydantic_ai.run import AgentRunResult
from pydantic_ai.tools import AgentDepsT, RunContext

from perdure.agents.pydantic_ai.backend import MODEL_RETRIES, StepBackend, UnitOptions
from perdure.agents.pydantic_ai.driving import drive, driving, execution_here, next_run_id
from perdure.agents.pydantic_ai.telling import tell
from perdure.agents.pydantic_ai.waiting import EventWaiter
from perdure.model.json import Json
from perdure.sdk.step import step


class PerdureDurability(BaseDurabilityCapability[AgentDepsT]):
    """Makes an agent durable. `model` and `tool` say how calls of the model and of tools are attempted.

    A tool may say so itself: `metadata={"perdure": {"retries": 0, "timeout": "30s"}}`; with `{"perdure": False}` it is
    no step, and runs again in every replay. `stream=False` says nothing in the stream of the run. `models` and
    `event_stream_handler` are as for every engine of pydantic-ai; each event of tools that a handler hears is a step.
    """

    engine_spec = DurabilityEngineSpec(
        engine_name="perdure",
        durable_unit_noun="step",
        durable_container_noun="run",
        codec=JSON_CODEC,
        toolset_lifecycles={"function": "enter-always", "mcp": "enter-in-durable-unit", "dynamic": "enter-never"},
        tool_config_key="perdure",
    )

    def __init__(
        self,
        *,
        models: Mapping[str, Model] | None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        name: str | None = None,
        model: UnitOptions | None = None,
        tool: UnitOptions | None = None,
        stream: bool = True,
    ) -> None:
        super().__init__(models=models, event_stream_handler=event_stream_handler, name=name)
        self._model_options: UnitOptions = {"retries": MODEL_RETRIES, **(model or {})}
        self._tool_options: UnitOptions = tool or {}
        self._stream = stream
        self._backend: StepBackend | None = None

    @property
    def in_durable_context(self) -> bool:
        """Whether the code runs in the handler of a function, and not inside of a step."""
        return execution_here() is not None

    def get_durable_operation_backend(self) -> StepBackend:
        """The backend of the agent that this is bound to."""
        if self._backend is None:
            self._backend = StepBackend(
                config=RoleBasedOperationConfig[UnitOptions](
                    model=self._model_options,
                    event={},
                    capability={},
                    tool=self._tool_options,
                    resolve_tool=self._tool_config,
                ),
                model=self._model_name,
                unwrap=self._unwrap,
            )
        return self._backend

    def get_default_run_id(self) -> str | None:
        """The id of the function's run for the first agent that runs in it, and numbered after that."""
        execution = execution_here()
        if execution is None:
            return None
        prepared = driving.get()
        if prepared is not None and not prepared.busy:
            return prepared.recorder.run_id
        return next_run_id(execution)

    def get_default_conversation_id(self, run_id: str) -> str | None:
        """Derived from the run's id, and so the same in a replay."""
        return conversation_id_from_run_id(run_id) if self.in_durable_context else None

    async def get_run_start_time(self, run_id: str) -> datetime | None:
        """When the run began, recorded: a run with a `timeout` counts from there after a restart too."""
        execution = execution_here()
        if execution is None:
            return None
        host = execution.host

        async def now() -> int:
            return host.now()

        return datetime.fromtimestamp(await step.run(f"started:{run_id}", now) / 1000, UTC)

    @property
    def has_wrap_run_event_stream(self) -> bool:
        """True makes pydantic-ai ask models for streams, which is what the stream of the run is told from."""
        return super().has_wrap_run_event_stream or (self._stream and self.in_durable_context)

    async def wrap_run(self, ctx: RunContext[AgentDepsT], *, handler: WrapRunHandler) -> AgentRunResult[Json]:
        """One run of the agent: durable where a function's handler runs it."""
        if not self.in_durable_context:
            return await handler()
        with (
            drive(self.name, ctx.run_id or "") as run,
            external_event_scope(EventWaiter(run)),
            replay_scope(),
        ):
            return await super().wrap_run(ctx, handler=handler)

    def _bind_to_agent(self, agent: AbstractAgent[AgentDepsT, Json]) -> None:
        # The copy that is bound must not share the backend of the one that it was made of.
        self._backend = None
        super()._bind_to_agent(agent)

    def _model_stream_event_handler(self) -> EventStreamHandler[AgentDepsT] | None:
        given = super()._model_stream_event_handler()
        if not self._stream:
            return given
        return _tell if given is None else partial(_tell_both, given)

    def _toolset_base_config(self, kind: ToolsetKind) -> UnitOptions:
        return self._tool_options

    def _tool_config(
        self, operation_id: DurableOperationId, tool: object | None, tool_name: str
    ) -> UnitOptions | Literal[False]:
        resolve = self._build_resolve_tool_config(self._tool_options)
        return cast("UnitOptions | Literal[False]", resolve(cast("ToolsetTool[Json] | None", tool), tool_name))

    def _model_name(self) -> tuple[str, str]:
        model = None if self.agent is None else self.agent.model
        if isinstance(model, Model):
            return model.model_name, model.system
        provider, _, name = str(model or "").partition(":")
        return name, provider

    def _unwrap(self, payload: Json) -> object:
        return self._unwrap_tool_result(JSON_CODEC.load(CallToolResult, payload))


async def _tell(ctx: RunContext[Json], events: AsyncIterable[AgentStreamEvent]) -> None:
    await tell(events)


async def _tell_both(
    given: EventStreamHandler[Json], ctx: RunContext[Json], events: AsyncIterable[AgentStreamEvent]
) -> None:
    """Tells the run's stream, and whoever else listens, event by event."""

    async def passed_on() -> AsyncIterator[AgentStreamEvent]:
        async for event in events:
            await tell(_one(event))
            yield event

    await given(ctx, passed_on())


async def _one(event: AgentStreamEvent) -> AsyncIterator[AgentStreamEvent]:
    yield event

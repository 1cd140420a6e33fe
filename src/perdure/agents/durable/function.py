"""The function that carries out an agent's runs: one for each agent, with flow control of its own.

What a run needs travels in its event as data (`RunData`); the agent is the code that is registered. So any process that
runs the app goes on with any run.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from perdure.agents.durable.accelerators import Accelerators
from perdure.agents.durable.body import Body
from perdure.agents.durable.children import STATUSES, ChildFunction
from perdure.agents.durable.compacting import Compacting
from perdure.agents.durable.earlier import EarlierRuns
from perdure.agents.durable.engines import Engine
from perdure.agents.durable.journal import DurableJournal, Identity
from perdure.agents.durable.naming import slug_of, trigger_of
from perdure.agents.durable.tasks import TaskFunction
from perdure.agents.durable.variants import body_of
from perdure.agents.options import Closures
from perdure.agents.storage import AgentRun, AgentStorage
from perdure.engine.agents.records import AgentRunStatus
from perdure.model.config import Concurrency
from perdure.model.errors import NonRetriableError, PerdureError
from perdure.model.json import Json
from perdure.sdk.app import App
from perdure.sdk.context import Context
from perdure.sdk.options import FunctionOptions

_log = logging.getLogger("perdure.agents")

_TURNS: Final = Concurrency(1, key="event.data.queue", hold="active")
"""Runs of one thread take turns; one that rests, as for a person's decision, lets the next one on."""


class RunData(msgspec.Struct, rename="camel", omit_defaults=True):
    """The data of the event that begins a run. `input` is what the agent's body made of the request.

    `queue` keeps runs of one conversation apart: it is the thread's key, or the run's own.
    """

    run_id: str
    agent_id: str
    version: str
    input: dict[str, Json]
    queue: str
    thread_id: str | None = None
    resource_id: str | None = None


class RunFunction:
    """Registers the function of an agent with an app. `function` is the function.

    `engine` gives the engine that runs the app; `keep_for` is how long (ms) a run that is over is remembered; `tasks`
    carries out the background tasks of its runs, `children` their sub-agents, and `on_over` is told of runs of threads
    once they are over.
    """

    def __init__(
        self,
        body: Body,
        app: App,
        engine: Callable[[], Engine],
        *,
        accelerators: Accelerators,
        keep_for: int | None,
        compacting: Compacting,
        options: FunctionOptions,
        on_over: Callable[[str], Awaitable[None]],
        tasks: TaskFunction | None = None,
        children: ChildFunction | None = None,
    ) -> None:
        self.closures: dict[str, Closures] = {}
        """What was given to runs by callers in this process, and only they know."""
        self._app = app
        self._body = body
        self._tasks = tasks
        self._children = children
        self._engine = engine
        self._accelerators = accelerators
        self._keep_for = keep_for
        self._compacting = compacting
        self._on_over = on_over
        self.function = app.function(slug_of(body.id), **_with_defaults(body, options))(self._handle)

    async def _handle(self, ctx: Context) -> dict[str, Json]:
        try:
            data = msgspec.convert(ctx.event.data, RunData)
        except msgspec.ValidationError as error:
            raise NonRetriableError(f"the event of a run of agent {self._body.id!r}: {error}") from error
        engine = self._engine()
        body = body_of(self._app, await _made_known(engine.storage, data, ctx.run_id), self._body)
        if data.version != body.version:
            # As for every function, new code goes on with runs of older code; questions are asked who may answer.
            ctx.logger.info("run %s began with version %s of its agent", data.run_id, data.version)
        try:
            result = await self._carry_out(body, data, ctx.run_id, engine)
        except Exception as error:
            if isinstance(error, NonRetriableError) or ctx.attempt + 1 >= ctx.max_attempts:
                await self._over(engine, data, "failed", "error")
            raise
        reason = result.get("finishReason", "other")
        await self._over(engine, data, STATUSES.get(reason, "finished"), reason)
        self._compacting.later(engine, ctx.run_id)
        return result

    async def _carry_out(self, body: Body, data: RunData, engine_run_id: str, engine: Engine) -> dict[str, Json]:
        whose = Identity(data.run_id, engine_run_id, data.agent_id, data.version, data.thread_id, data.resource_id)
        closures = self.closures.get(data.run_id) or Closures()
        journal = DurableJournal(whose, engine, self._accelerators, body.delegate)
        if data.thread_id is not None:
            journal.earlier = EarlierRuns(engine, body, data.run_id, data.thread_id, data.resource_id)
        if self._children is not None:
            journal.children = self._children.of_run(body, data.agent_id, data.run_id, engine_run_id, engine)
        if self._tasks is not None:
            journal.tasks = self._tasks.of_run(journal, engine)
        return await body.run(journal, data.input, engine.storage, closures)

    async def _over(self, engine: Engine, data: RunData, status: AgentRunStatus, reason: str) -> None:
        self.closures.pop(data.run_id, None)
        await engine.storage.set_run_status(data.run_id, status, finish_reason=reason, keep_for=self._keep_for)
        if data.thread_id is None:
            return
        try:
            await self._on_over(data.run_id)
        except PerdureError as error:
            # The run is over and stays so; what is left is seen to by whoever looks next (`Signals.pass_on_all`).
            _log.warning("run %s: the signals that it did not take in wait: %s", data.run_id, error)


async def _made_known(storage: AgentStorage, data: RunData, engine_run_id: str) -> AgentRun:
    """A run that nobody here has begun, by an event from elsewhere say, is put down as it would have been."""
    run = await storage.run(data.run_id)
    if run is None:
        made = AgentRun(data.run_id, data.agent_id, data.version, "", data.thread_id, data.resource_id)
        run, _ = await storage.put_run(made)
    if run.engine_run_id is None:
        run = await storage.bind_run(data.run_id, engine_run_id)
    if run.engine_run_id != engine_run_id:
        raise NonRetriableError(f"run {data.run_id} is carried out by {run.engine_run_id} already")
    return run


def _with_defaults(body: Body, options: FunctionOptions) -> FunctionOptions:
    defaults: FunctionOptions = {"trigger": trigger_of(body.id), "name": body.name}
    chosen: FunctionOptions = {**defaults, **options}
    given = options.get("concurrency")
    rules: list[int | Concurrency] = []
    if given is not None:
        rules = list(given) if isinstance(given, Sequence) else [given]
    # A function has two rules at most: whoever gives two of their own says how runs of a thread go, too. Without memory
    # there is nothing that two of them could disturb.
    if len(rules) < 2 and body.remembers:
        chosen["concurrency"] = [*(Concurrency(rule) if isinstance(rule, int) else rule for rule in rules), _TURNS]
    return chosen

"""What every part of a durable agent stands on: its agent, its function, and the engine that carries its runs out."""

from __future__ import annotations

import copy
import logging
from functools import partial
from typing import Self

import msgspec

from perdure.agents.durable.accelerators import Accelerators
from perdure.agents.durable.body import Body
from perdure.agents.durable.children import ChildFunction, children_of_app, is_child
from perdure.agents.durable.compacting import Compacting
from perdure.agents.durable.engines import Engine, local_engine
from perdure.agents.durable.function import RunFunction
from perdure.agents.durable.listing import mended
from perdure.agents.durable.loop_body import LoopBody
from perdure.agents.durable.reader import everything
from perdure.agents.durable.reading import Reading, read
from perdure.agents.durable.run import DurableRun
from perdure.agents.durable.tasks import TaskFunction, has_background, tasks_of
from perdure.agents.durable.variants import body_of
from perdure.agents.errors import RunNotFoundError
from perdure.agents.storage import AgentRun
from perdure.engine.agents.records import OVER
from perdure.model.errors import PerdureError
from perdure.model.ids import UlidFactory
from perdure.sdk.app import App
from perdure.sdk.options import FunctionOptions

_log = logging.getLogger("perdure.agents")


class DurableSettings(msgspec.Struct, frozen=True):
    """How a durable agent is made. `keep_for` (ms) is how long its runs are remembered once they are over,
    and `compact_after` (seconds) when their logs are compacted.

    `accepts_versions` are those of the agent whose questions may be answered besides its own; None: all.
    `only_variants`: it is no agent itself, and carries out those that are made of data.
    """

    keep_for: int | None
    compact_after: float | None = None
    accepts_versions: frozenset[str] | None = frozenset()
    accelerators: Accelerators = Accelerators(None, None)
    strict: bool = False
    max_steps: int | None = None
    engine: Engine | None = None
    options: FunctionOptions = {}
    only_variants: bool = False


class DurableBase:
    """An agent and its function. What it does is in the classes that stand on it."""

    def __init__(self, body: Body, app: App, settings: DurableSettings, entropy: UlidFactory) -> None:
        self._body = body
        self._app = app
        self._settings = settings
        self._new_id = entropy
        self._local: Engine | None = None
        compacting = Compacting(None if settings.only_variants else body.id, settings.compact_after)
        app.when_bound(lambda: compacting.catch_up(self._carrier()) if settings.engine is None else None)
        self._runs = RunFunction(
            body,
            app,
            self._carrier,
            accelerators=settings.accelerators,
            keep_for=settings.keep_for,
            compacting=compacting,
            options=settings.options,
            on_over=self._pass_on,
            tasks=self._task_function(),
            children=self._child_function(compacting),
        )
        if not settings.only_variants:
            app.add_agent(self)

    @property
    def id(self) -> str:
        """The agent's id."""
        return self._body.id

    @property
    def name(self) -> str:
        """The agent's name."""
        return self._body.name

    @property
    def version(self) -> str:
        """The agent's version: a run goes on only with the one that it began with."""
        return self._body.version

    @property
    def agent(self) -> object:
        """The agent inside, which is not durable by itself."""
        return self._body.wrapped

    @property
    def function_id(self) -> str:
        """The slug of the function whose runs are this agent's."""
        return self._runs.function.id

    @property
    def engine(self) -> Engine:
        """What carries out the runs. Raises `PerdureError` while nothing does."""
        return self._engine()

    async def get_run(self, run_id: str) -> AgentRun:
        """A run as it stands. Raises `RunNotFoundError`."""
        return await self._mended(await self._known(run_id))

    async def list_child_runs(self, run_id: str) -> list[AgentRun]:
        """The runs of sub-agents inside a run, in the order in which they began. Raises `RunNotFoundError`."""
        rows = await self.engine.storage.child_runs((await self._known(run_id)).run_id)
        return [await self._mended(row) for row in rows]

    async def abort(self, run_id: str, reason: str | None = None) -> bool:
        """Ends a run, wherever it is carried out; whether it was still going on. Raises `RunNotFoundError`."""
        run = await self._mended(await self._known(run_id))
        if run.status in OVER:
            return False
        _log.info("run %s of agent %s is aborted: %s", run_id, self.id, reason or "no reason is given")
        if run.engine_run_id is not None:
            await self.engine.cancel(run.engine_run_id)
        # It may have come to its end by itself meanwhile.
        return (await self._mended(run)).status == "aborted"

    abort_run = abort

    @property
    def body(self) -> Body:
        """What is carried out."""
        return self._body

    def with_body(self, body: Body) -> Self:
        """The same with another body: its runs are runs of the same function, which finds the body by their rows."""
        made = copy.copy(self)
        made._body = body
        return made

    def _body_of(self, run: AgentRun) -> Body:
        """The body that a run is carried out by."""
        return body_of(self._app, run, self._body)

    def _task_function(self) -> TaskFunction | None:
        """What carries out the background tasks of the agent; None where none of its tools may be one."""
        if not self._settings.only_variants and not (
            isinstance(self._body, LoopBody) and has_background(self._body.wrapped)
        ):
            return None
        found = tasks_of(self._app)
        found.serve(self._body, self._carrier, self._settings.keep_for)
        return found

    def _child_function(self, compacting: Compacting) -> ChildFunction | None:
        """What carries out the sub-agents of the agent; None where it has none."""
        if not self._settings.only_variants and not (isinstance(self._body, LoopBody) and self._body.wrapped.agents):
            return None
        found = children_of_app(self._app)
        found.serve(self._body, self._carrier, self._settings.keep_for, compacting)
        return found

    def _engine(self) -> Engine:
        if self._settings.engine is not None:
            return self._settings.engine
        found = local_engine(self._app, self._local)
        if found is None:
            raise PerdureError(
                f"agent {self.id!r}: nothing runs the app {self._app.id!r}, so its runs would never begin: run it with "
                "`async with perdure.embedded(app):`, or give create_durable_agent(engine=...) the server that does"
            )
        self._local = found
        return found

    def _carrier(self) -> Engine:
        """The engine for a run that is carried out here: a node that stops has let go of its apps before."""
        if self._settings.engine is None and self._app.engine is None and self._local is not None:
            return self._local
        return self._engine()

    async def _mended(self, run: AgentRun) -> AgentRun:
        """A run as it stands; one that is found to have been ended from outside is cleared up after."""
        ended = await mended(self.engine, run, self._settings.keep_for)
        if ended.status != "aborted" or run.status in OVER:
            return ended
        await self._aborted(ended)
        for child in await self.engine.storage.child_runs(run.run_id):
            # The engine ends them with their parent; whoever asks now is told so.
            await self.abort(child.run_id)
        if ended.thread_id is not None:
            await self._pass_on(run.run_id)
        return ended

    async def _aborted(self, run: AgentRun) -> None:
        """A run was ended: what it had said is kept in its thread."""
        if run.thread_id is None or run.engine_run_id is None:
            return
        engine = self.engine
        said = await everything(engine, run.run_id, run.engine_run_id)
        data = await engine.given(run.engine_run_id)
        await self._body_of(run).keep_partial(data["input"], said, engine.storage, engine.now())

    async def _pass_on(self, run_id: str) -> None:
        """A run of a thread is over: signals that it did not take in are for the next one."""

    async def _known(self, run_id: str) -> AgentRun:
        """A run of this agent, or one of a sub-agent below it."""
        run = above = await self.engine.storage.run(run_id)
        while above is not None and above.agent_id != self.id and is_child(above):
            above = await self.engine.storage.run(above.parent_run_id or "")
        if run is None or above is None or above.agent_id != self.id:
            raise RunNotFoundError(f"agent {self.id!r} has no run {run_id!r}")
        return run

    async def _read(self, run: AgentRun, after: int, how: Reading) -> DurableRun:
        seen = partial(self.get_run, run.run_id)
        return await read(self.engine, run, after, how, partial(self.abort, run.run_id), seen)

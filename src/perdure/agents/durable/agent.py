"""`DurableAgent`: an agent whose runs survive, and whose streams can be picked up again.

Each run is a run of one function, `agent-<id>`, in which a model call is a step and a tool call is a step. What is
handed out are readers of its log. Invariants:
- the id of a run is an idempotency key: the same id with the same input is the same run;
- callbacks belong to the reader that they were given to, and hear each event once.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import TypedDict, Unpack

import msgspec

from perdure.agents.chunks import Chunk
from perdure.agents.durable import listing
from perdure.agents.durable.answering import Answering
from perdure.agents.durable.background import DurableBackground
from perdure.agents.durable.body import Request
from perdure.agents.durable.engines import Engine
from perdure.agents.durable.function import RunData
from perdure.agents.durable.listing import SuspendedRun
from perdure.agents.durable.port import AgentRuns
from perdure.agents.durable.reading import VIEWING, check_reading, drained, offset_of, reading_of
from perdure.agents.durable.run import DurableRun, Prepared
from perdure.agents.durable.variants import VARIANT, current_body
from perdure.agents.errors import ConflictError
from perdure.agents.results import Result
from perdure.agents.signals import Accepted, Signal, Signals, Subscription
from perdure.agents.storage import AgentRun, Page
from perdure.model.jcs import canonical
from perdure.model.json import Json


class Where(TypedDict, total=False):
    """Where a signal goes, and what is to be done with it: see `Signals.send_signal`."""

    run_id: str | None
    thread_id: str | None
    resource_id: str | None
    if_active: Json
    if_idle: Json


class DurableAgent(Answering, DurableBackground):
    """An agent over a durable engine. Made by `create_durable_agent`.

    Whatever the agent inside offers besides runs (`get_instructions`, `list_tools`, ...) is offered here as well.
    """

    def __getattr__(self, name: str) -> Json:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._body.wrapped, name)

    async def prepare(self, messages: Json, **options: Json) -> Prepared:
        """A run that is not started yet, as data. Options as for `stream`, without callbacks."""
        request = await self._request(messages, options)
        return self._prepared(request)

    async def start(self, prepared: Prepared, **reading: Json) -> DurableRun:
        """Starts what was prepared, here or elsewhere, and reads its stream."""
        how = check_reading(reading)
        return await self._read(await self.begin(prepared), 0, how)

    async def begin(self, prepared: Prepared) -> AgentRun:
        """Starts what was prepared, and reads nothing of it."""
        if (prepared.agent_id, prepared.version) != (self.id, self.version):
            raise ConflictError(
                f"the run was prepared for agent {prepared.agent_id!r}, version {prepared.version!r}; "
                f"this is {self.id!r}, version {self.version!r}"
            )
        return (await self._begin(prepared))[0]

    async def stream(self, messages: Json, **options: Json) -> DurableRun:
        """Starts a run and reads its stream.

        `run_id` makes it idempotent: the same id with the same input is the same run, which is read from its
        beginning; with another input `ConflictError` is raised. Callbacks (`on_chunk`, `on_step_finish`, `on_finish`,
        `on_error`, `on_suspended`) belong to this reader. `view` is "committed", "live" or "settled"; `keep_open`:
        read on over suspensions. All other options are those of `Agent.stream`.

        Raises `PerdureError` at once when nothing runs the app.
        """
        how = reading_of(options)
        request = await self._request(messages, {key: options[key] for key in options if key not in VIEWING})
        prepared = self._prepared(request)
        if request.closures.names():
            self._runs.closures[prepared.run_id] = request.closures
        run, _ = await self._begin(prepared)
        how.callbacks, how.shape = request.callbacks, request.closures.output_shape
        return await self._read(run, 0, how)

    async def network(self, messages: Json, **options: Json) -> DurableRun:
        """Starts a run in which the agent chooses who carries the task out: see `Agent.network`, and `stream`."""
        return await self.stream(messages, **{**options, "network": True})

    async def generate(self, messages: Json, **options: Json) -> Result:
        """Starts a run and waits for the end of its first segment: `finish_reason` is "suspended" if it asks.

        Raises `AgentFailedError` where the run fails.
        """
        return await drained(await self.stream(messages, **options))

    async def observe(
        self, run_id: str, *, offset: int = 0, last_event_id: str | int | None = None, **reading: Json
    ) -> DurableRun:
        """Reads the stream of a run from after a place in it: the `index` of a chunk, or the id of its event.

        Raises `RunNotFoundError` for a run that there is not. One that is over is read to its end; past that, its
        last chunk is told once more.
        """
        run = await self._known(run_id)
        return await self._read(run, offset_of(offset, last_event_id), check_reading(reading))

    def follow_run(self, run_id: str, offset: int = 0) -> AsyncGenerator[Chunk]:
        """What a run says from a place on, over its questions, until it is over; nobody is called back.

        Raises `RunNotFoundError` at the first chunk that is asked for.
        """
        return AgentRuns(self, ids=self._new_id).follow(run_id, offset)

    async def recover(self, run_id: str, **reading: Json) -> DurableRun:
        """Reads a run from its beginning. There is nothing to recover: runs go on by themselves."""
        return await self.observe(run_id, **reading)

    async def list_suspended_runs(
        self,
        *,
        thread_id: str | None = None,
        resource_id: str | None = None,
        from_date: datetime | int | None = None,
        to_date: datetime | int | None = None,
        page: int = 0,
        per_page: int = 100,
    ) -> Page[SuspendedRun]:
        """The runs of this agent that wait for people, newest first."""
        return await listing.suspended_runs(
            self.engine,
            self.id,
            self._mended,
            thread_id=thread_id,
            resource_id=resource_id,
            from_date=from_date,
            to_date=to_date,
            page=page,
            per_page=per_page,
        )

    async def list_active_runs(
        self, *, thread_id: str | None = None, resource_id: str | None = None, page: int = 0, per_page: int = 100
    ) -> Page[AgentRun]:
        """The runs of this agent that are not over, newest first."""
        return await listing.active_runs(
            self.engine,
            self.id,
            self._mended,
            thread_id=thread_id,
            resource_id=resource_id,
            page=page,
            per_page=per_page,
        )

    async def recover_active_runs(self, **filters: Json) -> Page[AgentRun]:
        """The same as `list_active_runs`: the engine has taken them up again by itself."""
        return await self.list_active_runs(**filters)

    async def compact(self, run_id: str) -> int:
        """Puts the pieces of text in the log of a run that is over together; how many events are gone.

        It is done by itself some time after the end (`compact_after`). Places before and after stay good; who has one
        in the middle of what was put together is told so by a `GoneError`.
        """
        run = await self._known(run_id)
        return 0 if run.engine_run_id is None else await self.engine.compact(run.engine_run_id)

    async def abort_thread(
        self, thread_id: str, *, resource_id: str | None = None, expected_run_id: str | None = None
    ) -> bool:
        """Ends the runs of a thread, or only the expected one; whether one was still going on."""
        runs = await self.engine.storage.unfinished_runs(thread_id, resource_id)
        chosen = [run.run_id for run in runs if expected_run_id in (None, run.run_id) and run.agent_id == self.id]
        return any([await self.abort(run_id) for run_id in chosen])

    @property
    def signals(self) -> Signals:
        """What brings signals to the threads of this agent. Raises `PerdureError` while nothing runs the app."""
        return self._signals_by(self.engine)

    async def send_signal(self, signal: Signal | Json, **where: Unpack[Where]) -> Accepted:
        """Sends a signal to a thread or to a run: see `Signals.send_signal`.

        >>> async def remind(agent: DurableAgent) -> str:
        ...     signal = {"type": "reminder", "contents": "Back up the disk."}
        ...     return (await agent.send_signal(signal, thread_id="t-1", resource_id="u-1")).run_id
        """
        return await self.signals.send_signal(self.id, signal, **where)

    async def send_message(self, message: Json, **where: Unpack[Where]) -> Accepted:
        """Sends a user's message: see `Signals.send_message`."""
        return await self.signals.send_message(self.id, message, **where)

    async def queue_message(self, message: Json, *, thread_id: str, resource_id: str, if_idle: Json = None) -> Accepted:
        """Sends a user's message that gets a run of its own, after the one that is active now."""
        return await self.signals.queue_message(
            self.id, message, thread_id=thread_id, resource_id=resource_id, if_idle=if_idle
        )

    def subscribe_to_thread(self, thread_id: str, resource_id: str | None = None) -> Subscription:
        """Follows a thread: every run of it, from the beginning of those that are active now."""
        return self.signals.subscribe(thread_id, resource_id)

    def _signals_by(self, engine: Engine) -> Signals:
        return Signals(engine.storage, AgentRuns(self, ids=self._new_id))

    async def _pass_on(self, run_id: str) -> None:
        engine = self._carrier()
        run = await engine.storage.run(run_id)
        # The run that the signals begin is one of the agent as it is now.
        body = None if run is None else await current_body(self._app, run.agent_id, self._body, engine.storage)
        if body is not None:
            await self.with_body(body)._signals_by(engine).pass_on(run_id)

    async def _request(self, messages: Json, options: dict[str, Json]) -> Request:
        chosen = {key: value for key, value in options.items() if value is not None}
        if self._settings.max_steps is not None:
            chosen.setdefault("max_steps", self._settings.max_steps)
        now = self.engine.now()
        return await self._body.request(messages, chosen, new_id=self._new_id, now=now, strict=self._settings.strict)

    def _prepared(self, request: Request) -> Prepared:
        digest = hashlib.sha256(canonical(request.said)).hexdigest()
        return Prepared(
            request.run_id, self.id, self.version, request.data, digest, request.thread_id, request.resource_id
        )

    async def _begin(self, prepared: Prepared) -> tuple[AgentRun, bool]:
        variant: Json = prepared.input.get(VARIANT)
        said = {name: value for name, value in prepared.input.items() if name != VARIANT}
        run = AgentRun(
            prepared.run_id,
            self.id,
            self.version,
            prepared.input_hash,
            prepared.thread_id,
            prepared.resource_id,
            # Signals come to runs of threads.
            inbox_closed=prepared.thread_id is None,
            detail={} if variant is None else {VARIANT: variant},
        )
        queue = f"{prepared.resource_id or ''}/{prepared.thread_id}" if prepared.thread_id else prepared.run_id
        data = RunData(prepared.run_id, self.id, self.version, said, queue, prepared.thread_id, prepared.resource_id)
        return await self.engine.begin(run, self._runs.function, msgspec.to_builtins(data))

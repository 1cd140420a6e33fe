"""What is asked of a node: events in, runs started, cancelled and done once more, functions paused, questions answered.

Whatever is accepted is committed before the answer. `Node` adds the parts that do the work, and their life.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar, overload

import msgspec

from perdure import expressions
from perdure.engine import intake, intervene, operate, replays, views
from perdure.engine.catalogue import Catalogue
from perdure.engine.intake import Invoked
from perdure.engine.schedule import Refused
from perdure.engine.turn import Decision, Turn
from perdure.model import values
from perdure.model.errors import NotFoundError, RefusedError
from perdure.model.event import FUNCTION_INVOKED, EventError, StoredEvent, parse_event
from perdure.model.ids import seeded_ulid
from perdure.model.json import Json
from perdure.model.limits import MAX_EVENT_BYTES
from perdure.model.records import Replay, RunStatus
from perdure.runner.handle import RunHandle
from perdure.runner.runner import Runner
from perdure.sdk.function import Function

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Accepted(msgspec.Struct):
    """Events that were accepted: their internal ids, and the ids of the runs that each started."""

    event_ids: list[str]
    run_ids: list[list[str]]


class Operations:
    """The operations of a node, on its runner. Each may raise `StoreError`."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.decider = runner.decider
        self.clock = runner.decider.clock
        # One change of the catalogue at a time: each is made from the one before.
        self._registering = asyncio.Lock()

    @property
    def catalogue(self) -> Catalogue:
        """The functions in force."""
        return self.decider.catalogue

    async def ingest(self, bodies: Sequence[Json], *, seed: tuple[int, bytes] | None = None) -> Accepted:
        """Accepts events from outside, all or none. Raises `EventError` with the index of a malformed one."""
        now = self.clock.now()
        stored = [
            parse_event(
                body,
                now=now,
                internal_id=self.decider.ids() if seed is None else seeded_ulid(seed[0], seed[1], index + 1),
                index=index,
            )
            for index, body in enumerate(bodies)
        ]
        started = await self.decider.decide(intake.ingest, stored, seeded=seed is not None)
        return Accepted([event.internal_id for event in stored], started)

    async def send(self, events: list[dict[str, Json]]) -> list[str]:
        """Accepts events and returns their ids: the `Sender` of the apps."""
        return (await self.ingest(events)).event_ids

    @overload
    async def trigger(
        self,
        function: Function[R],
        data: object = None,
        *,
        user: dict[str, Json] | None = None,
        id: str | None = None,
    ) -> RunHandle[R]: ...
    @overload
    async def trigger(
        self,
        function: str,
        data: object = None,
        *,
        user: dict[str, Json] | None = None,
        id: str | None = None,
    ) -> RunHandle[Json]: ...
    async def trigger(
        self,
        function: Function[Json] | str,
        data: object = None,
        *,
        user: dict[str, Json] | None = None,
        id: str | None = None,
    ) -> RunHandle[Json]:
        """Starts one function and returns its run. `id` makes the start idempotent: within 24h, the same id gives
        the run that it started first.

        Raises `NotFoundError` for an unknown function, `EventError` for data over 3 MiB, `RefusedError` when flow
        control starts no run now.
        """
        function_id = function if isinstance(function, str) else function.id
        invoked = await self.invoke(function_id, {"data": _plain(data), "user": user, "id": id})
        if invoked.run_id is not None:
            return RunHandle(self.runner, invoked.run_id, function, fresh=invoked.refused is None)
        raise _refused(invoked.refused)

    async def invoke(self, function_id: str, body: dict[str, Json]) -> Invoked:
        """Starts one function with an event without a name. Raises `EventError`, `NotFoundError`."""
        now, internal_id = self.clock.now(), self.decider.ids()
        event = parse_event({**body, "name": "invoked"}, now=now, internal_id=internal_id).event
        event.name = FUNCTION_INVOKED
        function = self.catalogue.get(function_id)
        if function is not None and function.config.url is not None:
            # Apps on other servers are told so by every server of the protocol (A.1).
            event.data = {**event.data, "_inngest": {"fn_id": function_id}}
        stored = StoredEvent(internal_id, event, now, internal=True)
        invoked = await self.decider.decide(intake.invoke, function_id, stored)
        if invoked is None:
            raise self._no_function(function_id)
        return invoked

    def _no_function(self, function_id: str) -> NotFoundError:
        known = sorted(self.catalogue.functions)
        return NotFoundError(f"there is no function {function_id!r}; registered are {known}")

    async def runs_of(self, event_id: str) -> list[RunHandle[Json]]:
        """The runs that an event started, by the event's internal id (what `app.send` returns)."""
        return [self.run(run.id) for run in await self.view(partial(views.runs_of_event, event_id))]

    def run(self, run_id: str, function: Function[R] | None = None) -> RunHandle[R]:
        """The handle of a run by its id."""
        return RunHandle(self.runner, run_id, function)

    async def cancel(self, run_id: str) -> RunStatus:
        """Cancels a run; returns the status it had. Raises `NotFoundError`."""
        status = await self.decider.decide(intake.cancel, run_id)
        if status is None:
            raise NotFoundError(f"there is no run {run_id}")
        return status

    async def rerun(
        self, run_id: str, from_step: str | None = None, arguments: list[Json] | None = None
    ) -> RunHandle[Json]:
        """Starts a run once more, with the same events, as a new run.

        `from_step` is the name of a step, or its hash: what was recorded before it is not done again, that step and
        later ones are. `arguments` are what it gets instead of its own, if its app is on another server. Raises
        `NotFoundError` for an unknown run, `RefusedError` otherwise (`reason` "step_not_found", "input_fixed",
        "unregistered", "function_paused", "skipped", "events_gone").
        """
        outcome = await self.decider.decide(operate.rerun, run_id, from_step, arguments)
        if outcome is None:
            raise NotFoundError(f"there is no run {run_id}")
        if isinstance(outcome, Refused):
            raise _refused(outcome)
        return RunHandle(self.runner, outcome, fresh=True)

    async def skip_step(self, run_id: str, step: str, value: Json = None) -> str:
        """Gives a step that waits, or stands in its backoff, a value; returns the step's hash.

        `step` is a name or a hash. For a wait for an event, `value` is the event's data. Raises `NotFoundError` for an
        unknown run, `RefusedError` otherwise (`reason` "run_ended", "step_not_found", "step_decided",
        "step_executes", "input_fixed").
        """
        return _intervened(run_id, await self.decider.decide(intervene.skip_step, run_id, step, value))

    async def wake_step(self, run_id: str, step: str) -> str:
        """Ends what a step waits for: a sleep ends, a wait times out, a retry is attempted now.

        Returns the step's hash. Raises as `skip_step` does, and `RefusedError` with "step_without_timer".
        """
        return _intervened(run_id, await self.decider.decide(intervene.wake_step, run_id, step))

    async def pause_function(self, function: Function[Json] | str) -> None:
        """Pauses a function: events and ticks start nothing, and its runs rest as soon as no step of theirs executes.

        It stays paused over restarts until `resume_function`. Raises `NotFoundError`.
        """
        await self._set_paused(function if isinstance(function, str) else function.id, True)

    async def resume_function(self, function: Function[Json] | str) -> None:
        """Ends a pause: the function's runs go on where they were. Raises `NotFoundError`."""
        await self._set_paused(function if isinstance(function, str) else function.id, False)

    async def _set_paused(self, function_id: str, paused: bool) -> None:
        async with self._registering:
            function = await self.decider.decide(operate.set_paused, function_id, paused)
            if function is None:
                raise self._no_function(function_id)
            # A catalogue in use by the store's thread must not change under it.
            others = [other for other in self.catalogue.functions.values() if other.id != function_id]
            self.decider.catalogue = Catalogue([*others, function])
        if not paused:
            # Now that the catalogue knows: before, they would have been blocked again.
            await self.decider.decide(intake.unblock, [function.config])

    async def cancel_many(
        self,
        function_id: str,
        *,
        started_after: int | None = None,
        started_before: int | None = None,
        if_: str | None = None,
    ) -> int:
        """Cancels the runs of a function that began in a span of time (ms) and satisfy `if_`; returns how many."""
        condition = expressions.compile(if_, variables=frozenset({"event"})) if if_ else None
        cancelled, cursor = 0, ""
        while True:
            count, following = await self.decider.decide(
                intake.cancel_many,
                function_id,
                started_after=started_after,
                started_before=started_before,
                condition=condition,
                after_id=cursor,
            )
            cancelled += count
            if following is None:
                return cancelled
            cursor = following

    async def replay(
        self,
        function: Function[Json] | str,
        *,
        id: str | None = None,
        statuses: Sequence[RunStatus] = (RunStatus.FAILED,),
        queued_from: int | None = None,
        queued_until: int | None = None,
    ) -> Replay:
        """Starts the runs of a function that ended with one of the statuses and were queued in a span of time (ms,
        both ends included) once more; returns what came of it.

        `id` makes it idempotent for 30 days: the same id does nothing twice, and goes on where a crash ended it.
        Raises `NotFoundError`, and `RefusedError` (`reason` "replay_mismatch" when the id was taken by another
        choice of runs, "function_paused").
        """
        function_id = function if isinstance(function, str) else function.id
        if self.catalogue.get(function_id) is None:
            raise self._no_function(function_id)
        replay_id = id or self.decider.ids()
        choice = replays.Choice([int(status) for status in statuses], queued_from, queued_until)
        replay = await self.decider.decide(replays.begin, replay_id, function_id, choice)
        while isinstance(replay, Replay) and replay.ended_at is None:
            replay = await self.decider.decide(replays.advance, replay_id)
        if isinstance(replay, Refused):
            raise _refused(replay)
        return replay

    async def decide(self, make: Callable[Concatenate[Turn, P], Decision[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Makes a decision of the engine durable."""
        return await self.decider.decide(make, *args, **kwargs)

    async def signal(self, name: str, data: object = None) -> str | None:
        """Sends a signal; returns the id of the run that waited for it, None when none did."""
        plain = _plain_value(data, f"the data of signal {name!r}")
        return await self.decider.decide(intake.signal, name, plain)

    async def view(self, begin: Callable[[], Decision[T]]) -> T:
        """Answers a question of `perdure.engine.views` or `reads`."""
        return await self.decider.view(begin)

    async def health(self) -> views.Health:
        """Counts, and what should not be there."""
        return await self.view(views.health)


def _intervened(run_id: str, outcome: str | Refused | None) -> str:
    if outcome is None:
        raise NotFoundError(f"there is no run {run_id}")
    if isinstance(outcome, Refused):
        raise _refused(outcome)
    return outcome


def _refused(refused: Refused | None) -> RefusedError:
    return RefusedError(refused.reason, refused.message) if refused else RefusedError("refused", "no run was started")


def _plain(data: object) -> dict[str, Json]:
    if data is None:
        return {}
    encoded = values.encode(data, where="the data of the event")
    if len(encoded) > MAX_EVENT_BYTES:
        raise EventError(f"event has {len(encoded)} bytes, and at most {MAX_EVENT_BYTES} are allowed: send a reference")
    plain = values.decode(encoded, None)
    if not isinstance(plain, dict):
        raise TypeError(f"data must be an object, got {type(data).__name__}")
    return plain


def _plain_value(data: object, where: str) -> Json:
    return values.decode(values.encode(data, where=where), None, where=where)

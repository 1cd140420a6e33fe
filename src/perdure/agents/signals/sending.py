"""Sending signals: to the run that is active in a thread, into the thread, or as the beginning of a run.

Where a run is active a signal is delivered to it (default), persisted or discarded; where none is, it wakes one
(default), is persisted or discarded. Everything goes through the storage, so sender, run and followers may be in
different processes. Invariant: a signal that is accepted for delivery is in the inbox of a run that will take it in:
a run that ends first refuses it, and then there is no active run any more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Protocol

import msgspec

from perdure.agents.chunks import Chunk
from perdure.agents.errors import AccessDeniedError, ConflictError, InvalidOptionError, RunNotFoundError
from perdure.agents.signals.following import Subscription
from perdure.agents.signals.signal import Signal, parse_message, parse_signal, signal_message
from perdure.agents.spelling import camel_keys
from perdure.agents.storage import AgentRun, AgentStorage
from perdure.model.json import Json

_ACTIVE: Final = ("deliver", "persist", "discard")
_IDLE: Final = ("wake", "persist", "discard")
_TRIES: Final = 5
"""How often a run may end, and another begin, between the look for one and the delivery."""
_PASSED_ON: Final = "@passed-on"
_NO_RUN: Final = "No active agent run found for signal target"


class RunPort(Protocol):
    """What begins runs of agents, follows and aborts them."""

    async def start(
        self,
        agent_id: str,
        signals: list[dict[str, Json]],
        *,
        run_id: str,
        thread_id: str,
        resource_id: str,
        options: dict[str, Json],
    ) -> None:
        """Begins a run whose input is these signals; returns once it is accepted durably.

        It waits for its turn where another run of the thread executes. Starting the same run again does nothing.
        """
        ...

    def follow(self, run_id: str, offset: int = 0) -> AsyncIterator[Chunk]:
        """What a run says from an offset on, over suspensions, until it is over."""
        ...

    async def abort(self, run_id: str, reason: str | None = None) -> bool:
        """Aborts a run; False where it is over already."""
        ...


class Accepted(msgspec.Struct):
    """A signal that was accepted. `run_id` is the run that takes it in; the signal's own id where none does."""

    run_id: str
    signal: Signal

    def to_json(self) -> dict[str, Json]:
        """As the agents protocol answers."""
        return {
            "accepted": True,
            "runId": self.run_id,
            "signal": {**self.signal.to_json(), "__isCreatedSignal": True},
        }


class _Branch(msgspec.Struct):
    """What is to be done with a signal in one of the two cases."""

    behavior: str
    attributes: Json = None
    stream_options: dict[str, Json] = {}


class Signals:
    """Sends signals to the threads of one storage, and follows them."""

    def __init__(self, storage: AgentStorage, runs: RunPort) -> None:
        self._storage = storage
        self._runs = runs

    async def send_signal(
        self,
        agent_id: str,
        signal: Signal | Json,
        *,
        run_id: str | None = None,
        thread_id: str | None = None,
        resource_id: str | None = None,
        if_active: Json = None,
        if_idle: Json = None,
    ) -> Accepted:
        """Sends a signal to a thread of a resource, or to a run.

        `if_active` is `{behavior: "deliver" | "persist" | "discard", attributes?}`, `if_idle` `{behavior: "wake" |
        "persist" | "discard", attributes?, streamOptions?}`. Sending a signal with the same id again does nothing
        twice. Raises `InvalidOptionError`, `AccessDeniedError`, and `RunNotFoundError` for a run that is over.
        """
        parsed = signal if isinstance(signal, Signal) else self._parsed(signal)
        active, idle = _branch(if_active, "ifActive", _ACTIVE), _branch(if_idle, "ifIdle", _IDLE)
        if run_id is not None:
            return await self._to_run(run_id, agent_id, parsed, active)
        if not thread_id or not resource_id:
            raise InvalidOptionError("signal target: give runId, or resourceId and threadId")
        await self._check_owner(thread_id, resource_id)
        if await self._is_kept(parsed, thread_id):
            return Accepted(parsed.id, parsed)
        for _ in range(_TRIES):
            run = await self._storage.active_run(thread_id, resource_id)
            if run is None:
                break
            accepted = await self._to_active(run, parsed, active, thread_id, resource_id)
            if accepted is not None:
                return accepted
        return await self._to_idle(agent_id, parsed, idle, thread_id, resource_id)

    async def send_message(
        self,
        agent_id: str,
        message: Json,
        *,
        run_id: str | None = None,
        thread_id: str | None = None,
        resource_id: str | None = None,
        if_active: Json = None,
        if_idle: Json = None,
    ) -> Accepted:
        """Sends a user's message: a text, parts, or `{contents, attributes?, metadata?, providerOptions?}`."""
        return await self.send_signal(
            agent_id,
            parse_message(message, ids=self._storage.ids, now=self._storage.now()),
            run_id=run_id,
            thread_id=thread_id,
            resource_id=resource_id,
            if_active=if_active,
            if_idle=if_idle,
        )

    async def queue_message(
        self, agent_id: str, message: Json, *, thread_id: str, resource_id: str, if_idle: Json = None
    ) -> Accepted:
        """Sends a user's message that gets a run of its own, after the run that is active now, if one is."""
        signal = parse_message(message, ids=self._storage.ids, now=self._storage.now())
        await self._check_owner(thread_id, resource_id)
        return await self._wake(agent_id, signal, _branch(if_idle, "ifIdle", _IDLE), thread_id, resource_id)

    async def pass_on(self, run_id: str) -> str | None:
        """Sees to the signals that a run was sent and did not take in, once it is over; nothing otherwise.

        They begin a run of their own, whose id is given back; after an abort they are kept in the thread instead.
        Doing it again does nothing more.
        """
        run = await self._storage.run(run_id)
        if run is None or run.status in ("running", "suspended"):
            return None
        left = [self._parsed(body) for body in await self._storage.left_signals(run_id)]
        following: str | None = None
        if left and run.thread_id and run.resource_id:
            if run.status == "aborted":
                for signal in left:
                    await self._persist(signal, run.thread_id, run.resource_id)
            else:
                following = await self._begin(run.agent_id, left, {}, run.thread_id, run.resource_id)
        # Only now: a crash before this sees to them again, and begins no other run.
        await self._storage.claim_signals(run_id, _PASSED_ON)
        return following

    async def pass_on_all(self) -> None:
        """Sees to what a crash left behind; for the start of a process."""
        for run_id in await self._storage.runs_with_left_signals():
            await self.pass_on(run_id)

    def subscribe(self, thread_id: str, resource_id: str | None = None) -> Subscription:
        """Follows a thread: every run of it, from the beginning of those that are active now."""
        return Subscription(self._storage, self._runs, thread_id, resource_id)

    async def abort_thread(
        self,
        thread_id: str,
        resource_id: str | None = None,
        *,
        expected_run_id: str | None = None,
        reason: str | None = None,
    ) -> bool:
        """Aborts the run that is active in a thread, only the expected one where it is given; whether one was.

        Raises `AccessDeniedError`.
        """
        if resource_id is not None:
            await self._check_owner(thread_id, resource_id)
        runs = await self._storage.unfinished_runs(thread_id, resource_id)
        if expected_run_id is not None:
            runs = [run for run in runs if run.run_id == expected_run_id]
        # The run that has the thread comes first; those after it wait for their turn, or for people.
        for run in sorted(runs, key=lambda each: each.status != "running"):
            return await self._runs.abort(run.run_id, reason)
        return False

    def _parsed(self, body: Json) -> Signal:
        return parse_signal(body, ids=self._storage.ids, now=self._storage.now())

    async def _check_owner(self, thread_id: str, resource_id: str) -> None:
        thread = await self._storage.thread(thread_id)
        if thread is not None and thread.resource_id != resource_id:
            raise AccessDeniedError("Access denied: thread belongs to a different resource")

    async def _is_kept(self, signal: Signal, thread_id: str) -> bool:
        """Whether the signal came before, and a run has taken it in. Raises `ConflictError` for a foreign id."""
        message = await self._storage.message(signal.id)
        if message is not None and message.thread_id != thread_id:
            raise ConflictError(f"the signal id {signal.id!r} is taken in another thread")
        return message is not None

    async def _to_run(self, run_id: str, agent_id: str, signal: Signal, branch: _Branch) -> Accepted:
        run = await self._storage.run(run_id)
        if run is None or run.agent_id != agent_id or run.status not in ("running", "suspended"):
            raise RunNotFoundError(_NO_RUN)
        accepted = await self._to_active(run, signal, branch, run.thread_id, run.resource_id)
        if accepted is None:
            raise RunNotFoundError(_NO_RUN)
        return accepted

    async def _to_active(
        self, run: AgentRun, signal: Signal, branch: _Branch, thread_id: str | None, resource_id: str | None
    ) -> Accepted | None:
        """None where the run took no more signals when this one came."""
        if run.run_id == _woken_by(signal):
            # It is what the run has begun with.
            return Accepted(run.run_id, signal)
        signal = signal.with_attributes(branch.attributes)
        if branch.behavior == "deliver":
            taken = await self._storage.put_signal(run.run_id, signal.id, signal.to_json())
            return Accepted(run.run_id, signal) if taken else None
        if branch.behavior == "persist" and thread_id and resource_id:
            await self._persist(signal, thread_id, resource_id)
        return Accepted(signal.id, signal)

    async def _to_idle(
        self, agent_id: str, signal: Signal, branch: _Branch, thread_id: str, resource_id: str
    ) -> Accepted:
        if branch.behavior == "wake":
            return await self._wake(agent_id, signal, branch, thread_id, resource_id)
        signal = signal.with_attributes(branch.attributes)
        if branch.behavior == "persist":
            await self._persist(signal, thread_id, resource_id)
            await self._storage.note_persisted(thread_id, signal.id, {**signal.to_json(), "agentId": agent_id})
        return Accepted(signal.id, signal)

    async def _wake(self, agent_id: str, signal: Signal, branch: _Branch, thread_id: str, resource_id: str) -> Accepted:
        signal = signal.with_attributes(branch.attributes)
        run_id = await self._begin(agent_id, [signal], branch.stream_options, thread_id, resource_id)
        return Accepted(run_id, signal)

    async def _begin(
        self, agent_id: str, signals: list[Signal], options: dict[str, Json], thread_id: str, resource_id: str
    ) -> str:
        # Made from the first signal's id, so that sending it again begins no second run.
        run_id = _woken_by(signals[0])
        known = await self._storage.run(run_id)
        if known is not None and (known.agent_id, known.thread_id) != (agent_id, thread_id):
            raise ConflictError(f"the signal id {signals[0].id!r} is taken in another thread")
        if known is None or known.engine_run_id is None:
            await self._runs.start(
                agent_id,
                [signal.to_json() for signal in signals],
                run_id=run_id,
                thread_id=thread_id,
                resource_id=resource_id,
                options={"untilIdle": True, **options},
            )
        return run_id

    async def _persist(self, signal: Signal, thread_id: str, resource_id: str) -> None:
        await self._storage.ensure_thread(thread_id, resource_id)
        await self._storage.save_messages([signal_message(signal, thread_id, resource_id)])


def _woken_by(signal: Signal) -> str:
    """The id of the run that a signal wakes."""
    return f"signal-{signal.id}"


def _branch(given: Json, where: str, allowed: tuple[str, ...]) -> _Branch:
    if given is None:
        return _Branch(allowed[0])
    fields = camel_keys(given, where)
    behavior = fields.get("behavior") or allowed[0]
    if behavior not in allowed:
        raise InvalidOptionError(f"{where}.behavior: must be one of {', '.join(allowed)}, got {behavior!r}")
    options = fields.get("streamOptions")
    return _Branch(
        behavior, fields.get("attributes"), {} if options is None else camel_keys(options, f"{where}.streamOptions")
    )

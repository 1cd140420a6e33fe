"""Following a thread: what all its runs say, in whichever process they execute, and signals persisted in between.

Runs are found in the storage: at once where a change was made in this process, by looking again otherwise. Who comes
late hears the runs that are not over from their beginning. Invariants: each run is followed once, by a task of its
own; a run is heard after the one before it has ended, or waits for a person; and closing the subscription ends nothing
but the subscription.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Final, Protocol

from perdure.agents.chunks import TERMINAL, Chunk, chunk
from perdure.agents.errors import GoneError, RunNotFoundError
from perdure.agents.signals.signal import parse_signal, signal_chunk
from perdure.agents.storage import AgentRun, AgentStorage, Queued

POLL: Final = 0.5
"""Seconds after which a change that another process made is found."""
_AHEAD: Final = 256
"""Chunks that wait for a reader before its runs' followers wait too."""
_RUNS_AT_ONCE: Final = 100
_PASSING: Final = frozenset({*TERMINAL, "tool-call-approval", "tool-call-suspended"})
"""The kinds of chunks after which the next run of the thread may be heard."""


class Follows(Protocol):
    """What a subscription needs of `RunPort`."""

    def follow(self, run_id: str, offset: int = 0) -> AsyncIterator[Chunk]: ...

    async def abort(self, run_id: str, reason: str | None = None) -> bool: ...


class Subscription:
    """What is said in a thread, chunk by chunk, without an end: iterate over it, and close it.

    Use: `async with signals.subscribe(thread, resource) as heard: async for chunk in heard: ...`. It begins to listen
    when the block is entered, or at the first chunk that is asked for.
    """

    def __init__(self, storage: AgentStorage, runs: Follows, thread_id: str, resource_id: str | None) -> None:
        self._storage = storage
        self._runs = runs
        self._thread_id = thread_id
        self._resource_id = resource_id
        self._said: asyncio.Queue[Chunk | Exception] = asyncio.Queue(_AHEAD)
        self._tasks: set[asyncio.Task[None]] = set()
        self._followed: set[str] = set()
        self._before: asyncio.Event | None = None
        self._since = 0
        self._place = 0
        self._looked = asyncio.Event()
        self._closed = False

    async def __aenter__(self) -> Subscription:
        await self._begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Chunk:
        await self._begin()
        if self._closed:
            raise StopAsyncIteration
        said = await self._said.get()
        if isinstance(said, Exception):
            raise said
        return said

    async def close(self) -> None:
        """Stops listening; the runs go on."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _begin(self) -> None:
        """Returns once it is known which runs are active: what comes after that is heard."""
        if not self._tasks and not self._closed:
            self._spawn(self._looking())
        await self._looked.wait()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _looking(self) -> None:
        """Finds runs and persisted signals, for as long as anybody listens."""
        with self._storage.watch(f"thread:{self._thread_id}") as watch:
            try:
                self._since = self._storage.now()
                self._place = await self._storage.last_signal()
                while True:
                    await self._look()
                    self._looked.set()
                    await watch.changed(POLL)
            except Exception as error:
                self._looked.set()
                await self._said.put(error)

    async def _look(self) -> None:
        # Of those that are not over all are of interest, whatever a clock elsewhere says of their beginning.
        for run in await self._storage.unfinished_runs(self._thread_id, self._resource_id):
            self._follow(run)
        while True:
            found = await self._storage.runs_since(self._thread_id, self._resource_id, self._since, _RUNS_AT_ONCE)
            for run in found:
                self._follow(run)
            if len(found) < _RUNS_AT_ONCE or found[-1].created_at == self._since:
                break
            self._since = found[-1].created_at
        for queued in await self._storage.persisted_since(self._thread_id, self._place):
            self._place = queued.seq
            if await self._is_ours():
                for said in _as_chunks(queued, self._storage):
                    await self._said.put(said)

    async def _is_ours(self) -> bool:
        # Asked again each time: the thread may have been made, or given away, since this began to listen.
        if self._resource_id is None:
            return True
        thread = await self._storage.thread(self._thread_id)
        return thread is not None and thread.resource_id == self._resource_id

    def _follow(self, run: AgentRun) -> None:
        # One that is put down and has not begun says nothing yet: a later look finds it.
        if run.engine_run_id is not None and run.run_id not in self._followed:
            self._followed.add(run.run_id)
            before, self._before = self._before, asyncio.Event()
            self._spawn(self._following(run.run_id, before, self._before))

    async def _following(self, run_id: str, before: asyncio.Event | None, passed: asyncio.Event) -> None:
        """`before`: the run before this one has ended, or waits; `passed`: so has this one."""
        try:
            async for said in self._runs.follow(run_id, 0):
                if before is not None:
                    await before.wait()
                await self._said.put(said)
                if said.type in _PASSING:
                    passed.set()
        except (RunNotFoundError, GoneError):
            # Retention took it while it was followed: there is nothing more to hear of it.
            return
        except Exception as error:
            await self._said.put(error)
        finally:
            passed.set()


def _as_chunks(queued: Queued, storage: AgentStorage) -> list[Chunk]:
    """A persisted signal, told as a run that says nothing else."""
    signal = parse_signal(queued.signal, ids=storage.ids, now=storage.now())
    run_id = f"persisted-signal:{signal.id}"
    agent_id = queued.signal.get("agentId")
    usage = {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}
    return [
        chunk("start", run_id, id=agent_id, messageId=run_id),
        signal_chunk(signal, run_id),
        chunk("finish", run_id, stepResult={"reason": "stop"}, output={"usage": usage}),
    ]

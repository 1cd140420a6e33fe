"""The runner: claims jobs, keeps runs in residence, fires timers.

Three loops, each asleep until it has work: `_claiming` takes ready jobs while there is room, `_firing` takes what
is due, `_renewing` says that this node lives (where others could think it dead). Effects of commits arrive in
`_on_effect`. Parked coroutines stay for a while, at most `max_parked` of them, and are evicted after that: a run
that sleeps for a month costs a row.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from perdure.bus import MemoryBus, RedisBus
from perdure.engine import drive, due, flow
from perdure.engine.turn import Backlog, Decision, Due, Effect, Ended, Lease, Start, Turn, Wake
from perdure.model.errors import StoreError
from perdure.model.json import Json
from perdure.model.records import RunStatus
from perdure.model.streams import MAX_STREAM_BYTES
from perdure.runner.clock import Timer
from perdure.runner.decider import Decider
from perdure.runner.fetch import Fetcher
from perdure.runner.loading import load_runs
from perdure.runner.neighbours import Neighbours
from perdure.runner.parking import Parking
from perdure.runner.pools import Pools
from perdure.runner.residence import Code, Residence
from perdure.runner.shared_clock import set_by
from perdure.runner.streams import Streams
from perdure.sdk.port import FetchRequest, FetchResponse
from perdure.store.protocol import EVERYTHING

T = TypeVar("T")
_log = logging.getLogger("perdure.runner")

_CLAIM_AT_ONCE = 200
_FIRE_AT_ONCE = 500
_LOAD_AT_ONCE = 200
_LIFETIME = 15_000
"""Within what time the work of a node that died is taken over (ms), by default: three quarters of it is how long a node
counts as alive since it last said so, a quarter how often it says so and looks for others that do not."""
_FOREVER = 1 << 60
_PAUSE_AFTER_ERROR = 1.0
_PAUSE_AFTER_DEFECT = 10_000
"""How long a run is left alone whose residence met a defect (ms)."""


class Runner:
    """Runs the functions of this process. `max_active` runs execute at once, `max_parked` wait without replay; besides,
    `max_per_app` runs of each app on another server execute at once.

    `threads` bounds the worker threads of plain functions, made as needed. It must exceed what plain handlers can
    hold at once (`max_active + max_parked`), or their steps would wait for threads that never come free.
    """

    def __init__(
        self,
        decider: Decider,
        *,
        max_active: int = 1000,
        max_parked: int = 1000,
        max_per_app: int = 1000,
        threads: int = 4096,
        max_stream_bytes: int = MAX_STREAM_BYTES,
        lifetime: int = _LIFETIME,
        bus: RedisBus | None = None,
    ) -> None:
        self.decider = decider
        self._lifetime = lifetime
        self.ended: MemoryBus[Ended] = MemoryBus()
        self.streams = Streams(decider, self.ended, max_stream_bytes)
        self._codes: dict[str, Code] = {}
        self._residents: dict[str, Residence] = {}
        self._parked = Parking(max_parked, self._evict)
        self._loading: list[Residence] = []
        self._max_active = max_active
        self._threads = ThreadPoolExecutor(threads, "perdure-step")
        self._fetcher = Fetcher()
        self._pools = Pools(max_per_app, self._let_in)
        self._tasks: set[asyncio.Task[Json]] = set()
        self._backlog = self._claims = False
        self._work = asyncio.Event()
        self._due = asyncio.Event()
        self._due_at: int | None = None
        self._timer: Timer | None = None
        self._stopping = False
        self._changed = asyncio.Event()
        self.neighbours = Neighbours(self, bus)
        decider.room = self._room
        decider.runnable = self._codes.__contains__
        decider.pool_of = self._pool_of
        decider.refused = self._pools.refused
        decider.on_effect = self._on_effect

    async def start(self, channel: str = "") -> None:
        """Begins to claim and fire. What an earlier process left leased is ready again. `channel`: see `Relay`."""
        await self._renew()
        self._due.set()
        self._spawn(self._claiming())
        self._spawn(self._firing())
        if not self.decider.store.exclusive:
            self.neighbours.relay.start(channel)
            self.streams.tell = self.neighbours.relay.tell
            self._spawn(self._renewing())

    def use(self, codes: Iterable[Code]) -> None:
        """Replaces the code of functions. Runs in residence go on with the new code from their next step on."""
        self._codes.update({code.id: code for code in codes})
        for resident in tuple(self._residents.values()):
            if resident.code != self._codes.get(resident.code.id):
                resident.drain()

    def drop(self, function_ids: Iterable[str]) -> None:
        """Forgets the code of functions; their runs wait until some node has it."""
        for function_id in function_ids:
            self._codes.pop(function_id, None)

    async def stop(self, deadline: float) -> None:
        """Takes on nothing new, lets steps that are executing finish within `deadline` seconds, hands back the rest."""
        self._stopping = True
        self._parked.close()
        if self._timer is not None:
            self._timer.cancel()
        for resident in tuple(self._residents.values()):
            resident.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline):
                while self._residents:
                    self._changed.clear()
                    await self._changed.wait()
        left = list(self._residents.values())
        for resident in left:
            resident.stop()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, *(resident.stopped() for resident in left), return_exceptions=True)
        await self.streams.close()
        await self.neighbours.stop()
        try:
            await self.decider.decide(drive.retire, self.decider.node)
            self.decider.retire()
        finally:
            # Threads cannot be interrupted: a plain step that outlives the deadline is not waited for.
            self._threads.shutdown(wait=False, cancel_futures=True)
            await self._fetcher.close()

    # Effects: what the engine asks for after a commit.

    def _capacity(self) -> int:
        return 0 if self._stopping else self._max_active + self._pools.inside - self.load[0]

    def _room(self) -> int:
        # While others wait to be claimed, nothing new may overtake them.
        return 0 if self._backlog or self._claims else self._capacity()

    def _pool_of(self, function_id: str) -> tuple[str, int] | None:
        code = self._codes.get(function_id)
        if code is None or code.pool is None or self._stopping:
            return None
        return code.pool, self._pools.room(code.pool)

    def _let_in(self, pool: str, count: int) -> None:
        if not self._stopping:
            self._spawn(self._call_in(pool, count))

    async def _call_in(self, pool: str, count: int) -> None:
        if await self._persist(lambda: self.decider.decide(flow.let_in, pool, count)) == count:
            # There may be more of them.
            self._pools.refused(pool)

    def resident(self, run_id: str) -> Residence | None:
        """The residence of a run, if it has one here."""
        return self._residents.get(run_id)

    def _on_effect(self, effect: Effect) -> None:
        if isinstance(effect, Start):
            self._on_start(effect)
        elif isinstance(effect, Ended):
            self._on_ended(effect)
        elif isinstance(effect, Wake):
            resident = self._residents.get(effect.run_id)
            if resident is not None:
                resident.wake(effect.step)
        elif isinstance(effect, Due):
            self._expect(effect.at)
        else:
            self._backlog = True
            self._work.set()

    def _on_start(self, start: Start) -> None:
        resident = self._residents.get(start.run_id)
        if resident is not None and not resident.was_driven_last(start):
            # Another node has driven the run since: what is here does not know what was recorded there.
            resident.lease = None
            self._evict(resident)
            resident = None
        if resident is not None:
            self._parked.remove(start.run_id)
            self._pools.enter(resident)
            resident.resume(start)
            return
        code = self._codes.get(start.function_id)
        compiled = self.decider.catalogue.get(start.function_id)
        if code is None or compiled is None or self._stopping:
            self._hand_back(start.lease)
            return
        resident = code.reside(self, start, compiled)
        self._residents[start.run_id] = resident
        self._pools.enter(resident)
        if start.run is not None and start.events is not None:
            resident.begin(start.run, start.events, start.steps or [])
            return
        self._loading.append(resident)
        if len(self._loading) == 1:
            self._spawn(self._load())

    async def _load(self) -> None:
        """Begins the residents that replay, reading many runs in one go."""
        while self._loading:
            await asyncio.sleep(0)
            residents, self._loading = self._loading[:_LOAD_AT_ONCE], self._loading[_LOAD_AT_ONCE:]
            try:
                await self._begin(residents)
            except Exception:
                # One of them cannot be read; the others must not wait for it.
                for resident in residents:
                    await self._begin_alone(resident)

    async def _begin(self, residents: list[Residence]) -> None:
        run_ids = [resident.run_id for resident in residents]
        loaded = await self._persist(lambda: self.decider.view(lambda: load_runs(run_ids)))
        for resident in residents:
            found = loaded.get(resident.run_id)
            if self._residents.get(resident.run_id) is not resident or resident.begun:
                continue
            if found is None or found.run.status >= RunStatus.COMPLETED:
                self.left(resident)
            else:
                if found.torn:
                    self.streams.mend(resident.run_id, found.torn)
                resident.begin(found.run, found.events, found.steps)

    async def _begin_alone(self, resident: Residence) -> None:
        try:
            await self._begin([resident])
        except Exception as error:
            run_id = resident.run_id
            _log.critical("run %s cannot be read and is set aside", run_id, exc_info=error)
            await self._persist(lambda: self.decider.decide(drive.set_aside, run_id))
            resident.lease = None
            self.left(resident)

    def _interrupt(self, run_id: str) -> None:
        resident = self._residents.get(run_id)
        if resident is not None and not resident.ending:
            # Cancelled from outside: a step that is executing is interrupted.
            resident.lease = None
            resident.stop()
            self.left(resident)

    def _on_ended(self, ended: Ended) -> None:
        self._interrupt(ended.run_id)
        if ended.status == RunStatus.FAILED:
            # Without the message, which may carry what must not be logged: the run has it.
            told = "run %s of %s failed; its result, or `perdure run %s` where a server runs, says why"
            _log.warning(told, ended.run_id, ended.function_id, ended.run_id)
        self.ended.publish(ended.run_id, ended)

    # What other nodes do (see `neighbours`).

    @property
    def function_ids(self) -> list[str]:
        return list(self._codes)

    def has_room(self) -> bool:
        return self._capacity() > 0

    def claim_soon(self) -> None:
        self._on_effect(Backlog())

    def fire_soon(self) -> None:
        if not self._stopping:
            self._due.set()

    def woken(self, run_id: str) -> None:
        resident = self._residents.get(run_id)
        if resident is not None and resident.lease is not None:
            resident.refresh()

    def resides(self, run_id: str) -> bool:
        return run_id in self._residents

    def ended_elsewhere(self, ended: Ended) -> None:
        self._interrupt(ended.run_id)
        self.ended.publish(ended.run_id, ended)

    # Residents: the keeper's side.

    def parked(self, resident: Residence) -> None:
        self._pools.leave(resident)
        self._changed.set()
        self._parked.add(resident, self.decider.clock.now())
        if self._backlog:
            self._work.set()

    def left(self, resident: Residence) -> None:
        resident.hush()
        if self._residents.get(resident.run_id) is resident:
            del self._residents[resident.run_id]
            self._parked.remove(resident.run_id)
            self._pools.leave(resident)
        self._changed.set()
        if resident.lease is not None and not self._stopping:
            self._hand_back(resident.lease, _PAUSE_AFTER_DEFECT if resident.defective else 0)
            resident.lease = None
        if self._backlog:
            self._work.set()

    def _evict(self, resident: Residence) -> None:
        resident.stop()
        self.left(resident)

    def _hand_back(self, lease: Lease, pause: int = 0) -> None:
        self._spawn(self._persist(lambda: self.decider.decide(drive.hand_back, lease, pause)))

    async def in_thread(self, call: Callable[[], T]) -> T:
        context = copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._threads, context.run, call)

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        return await self._fetcher.fetch(request)

    # The loops.

    async def _claiming(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._backlog and self._capacity() > 0:
                self._backlog, self._claims = False, True
                try:
                    if await self._past_defects(self._claim, drive.set_aside, _CLAIM_AT_ONCE):
                        self._backlog = True
                finally:
                    self._claims = False

    def _claim(self, turn: Turn, limit: int) -> Decision[bool]:
        turn.offer.room = self._capacity()
        return drive.claim(turn, limit)

    async def _firing(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            self._due_at = None
            following = await self._past_defects(due.fire, due.set_aside, _FIRE_AT_ONCE)
            if following is not None:
                self._expect(following)

    async def _past_defects(
        self,
        make: Callable[[Turn, int], Decision[T]],
        set_aside: Callable[[Turn], Decision[str | None]],
        limit: int,
    ) -> T:
        """Makes a decision on up to `limit` jobs. A job that cannot be decided on must not hold up the others: then
        they are taken one at a time, and the one that fails is set aside for somebody to look at."""
        try:
            return await self._persist(lambda: self.decider.decide(make, limit))
        except Exception as error:
            if limit == 1:
                job_id = await self._persist(lambda: self.decider.decide(set_aside))
                _log.critical("job %s cannot be used and is set aside", job_id, exc_info=error)
        return await self._past_defects(make, set_aside, 1)

    def _expect(self, at: int) -> None:
        """Makes sure that what is due at a time is fired then."""
        if self._stopping or (self._due_at is not None and self._due_at <= at):
            return
        self._due_at = at
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.decider.clock.call_at(at, self._due.set)

    async def _renewing(self) -> None:
        while True:
            await asyncio.sleep(self._lifetime / 4000)
            await self._persist(self._renew)
            await self._persist(lambda: set_by(self.decider.store, self.decider.clock))
            self.neighbours.heard(EVERYTHING)

    async def _renew(self) -> None:
        lifetime = _FOREVER if self.decider.store.exclusive else self._lifetime * 3 // 4
        await self.decider.decide(drive.renew, self.decider.node, lifetime)

    async def _persist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Tries again until the store takes it: a full disk ends one day, and nothing here may be skipped."""
        while True:
            try:
                return await attempt()
            except StoreError as error:
                _log.error("the store refuses, trying again in %s s: %s", _PAUSE_AFTER_ERROR, error)
                await asyncio.sleep(_PAUSE_AFTER_ERROR)

    def _spawn(self, work: Coroutine[None, None, T]) -> None:
        task: asyncio.Task[T] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        self._changed.set()
        if not task.cancelled() and task.exception() is not None:
            _log.critical("a loop of the runner ended", exc_info=task.exception())

    # For those who wait.

    @property
    def due_at(self) -> int | None:
        """When the next job that the runner knows of is due (ms)."""
        return self._due_at

    @property
    def idle(self) -> bool:
        """Whether nothing moves until time passes or something comes from outside."""
        active = len(self._residents) - len(self._parked)
        claimable = self._backlog and self._capacity() > 0
        return not (active or claimable or self.decider.deciding or self._loading or self._due.is_set())

    @property
    def load(self) -> tuple[int, int]:
        """How many runs execute, and how many are parked in memory."""
        return len(self._residents) - len(self._parked), len(self._parked)

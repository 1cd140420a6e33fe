"""What the other nodes of a database do, as far as it concerns this one.

A store tells what happened in the words of `heard`; a store of one process tells nothing. Nothing rests on being
told: news may be missed or come twice, and `EVERYTHING` asks for a look at all that they could have been about.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from typing import Final, ParamSpec, Protocol

from perdure.bus import MemoryBus, RedisBus
from perdure.engine import flow, reads
from perdure.engine.turn import Decision, Ended
from perdure.model.errors import StoreError
from perdure.model.records import RunStatus
from perdure.runner.decider import Decider
from perdure.runner.errands import Errands
from perdure.runner.relay import Relay
from perdure.runner.streams import Streams
from perdure.store.protocol import EVERYTHING

P = ParamSpec("P")
_log = logging.getLogger("perdure.runner")

_COURTESY: Final = 0.02
"""Seconds for which what became ready is left to the node that made it so; this one looks up to twice as late."""
_AT_ONCE: Final = 500


class Host(Protocol):
    """What the news are for: the runner."""

    decider: Decider
    ended: MemoryBus[Ended]
    streams: Streams

    @property
    def function_ids(self) -> Iterable[str]:
        """The functions whose code is here."""
        ...

    def has_room(self) -> bool: ...

    def claim_soon(self) -> None:
        """Jobs are ready."""
        ...

    def fire_soon(self) -> None:
        """Jobs may be due."""
        ...

    def woken(self, run_id: str) -> None:
        """Something of a run was decided elsewhere."""
        ...

    def resides(self, run_id: str) -> bool: ...

    def ended_elsewhere(self, ended: Ended) -> None: ...


class Neighbours:
    """Hears the news. `on_apps` is told that functions, or apps elsewhere, may have changed."""

    def __init__(self, host: Host, bus: RedisBus | None) -> None:
        self._host = host
        self.relay = Relay(host.decider.store, host.decider.node, self.heard, bus)
        self.errands = Errands(host.decider.node, self.relay.tell)
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking = self._stopped = False
        self.on_apps: Callable[[], Awaitable[None]] | None = None
        self.on_said: Callable[[str], None] = lambda _: None
        """Hears what was said to all nodes with `say ...`."""

    def heard(self, news: str) -> None:
        """One of the news; see `tell_2` in the PostgreSQL store for who says what."""
        kind, _, rest = news.partition(" ")
        if kind == "ended":
            if self._host.ended.is_wanted(rest) or self._host.resides(rest):
                self._spawn(self._ended, [rest])
        elif kind == "woken":
            node, _, run_id = rest.partition(" ")
            if node == self._host.decider.node:
                self._host.woken(run_id)
        elif kind == "ready":
            self._look_soon()
        elif kind == "blocked":
            self._spawn(self._unblock, [rest])
        elif kind == "stream":
            self._host.streams.grew(rest)
        elif kind == "follow":
            self._host.streams.followed(rest)
        elif kind == "apps":
            self._spawn(self._apps)
        elif kind == "ask":
            self.errands.heard_ask(rest)
        elif kind == "answer":
            self.errands.heard_answer(rest)
        elif kind == "say":
            self.on_said(rest)
        elif news == EVERYTHING:
            self._spawn(self._everything)

    async def stop(self) -> None:
        self._stopped = True
        await self.errands.stop()
        await self.relay.stop()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _everything(self) -> None:
        self.relay.look()
        await self._apps()
        self._host.fire_soon()
        self._look_soon()
        self._host.streams.grew(None)
        await self._ended(self._host.ended.topics())
        await self._unblock([f"{flow.UNKNOWN_FUNCTION}{function_id}" for function_id in self._host.function_ids])

    async def _apps(self) -> None:
        if self.on_apps is not None:
            await self.on_apps()

    async def _ended(self, run_ids: list[str]) -> None:
        """Tells who waits here of the runs that have ended elsewhere."""
        for ended in await self._host.decider.view(partial(_endings, run_ids)) if run_ids else []:
            self._host.ended_elsewhere(ended)

    def _look_soon(self) -> None:
        if not self._looking and self._host.has_room():
            self._looking = True
            self._spawn(self._look)

    async def _look(self) -> None:
        await asyncio.sleep(_COURTESY * (1 + random.random()))
        self._looking = False
        # A look takes no lock: most of the time another node has been faster.
        if await self._host.decider.view(partial(reads.ready_jobs, 1)):
            self._host.claim_soon()

    async def _unblock(self, keys: list[str]) -> None:
        """Lets runs compete that another node set aside because it has not the code for them."""
        ours = {f"{flow.UNKNOWN_FUNCTION}{function_id}" for function_id in self._host.function_ids}
        wanted = [key for key in keys if key in ours and not self._is_paused(key)]
        for key in await self._host.decider.view(partial(_waited_for, wanted)) if wanted else []:
            await self._host.decider.decide(flow.let_in, key, _AT_ONCE)

    def _is_paused(self, key: str) -> bool:
        function = self._host.decider.catalogue.get(key.removeprefix(flow.UNKNOWN_FUNCTION))
        return function is None or function.paused

    def _spawn(self, look: Callable[P, Coroutine[None, None, None]], *args: P.args, **kwargs: P.kwargs) -> None:
        if not self._stopped:
            task = asyncio.get_running_loop().create_task(self._guarded(look, *args, **kwargs))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _guarded(self, look: Callable[P, Coroutine[None, None, None]], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            await look(*args, **kwargs)
        except StoreError as error:
            _log.warning("news of other nodes are looked at again later: %s", error)


def _endings(run_ids: list[str]) -> Decision[list[Ended]]:
    """Those of the runs that have ended."""
    found: list[Ended] = []
    for run_id in run_ids:
        run = yield from reads.run_by_id(run_id)
        if run is not None and RunStatus(run.status).final:
            found.append(Ended(run.id, run.function_id, run.status, run.output or b"null"))
    return found


def _waited_for(keys: list[str]) -> Decision[list[str]]:
    """Those of the keys on which jobs are blocked."""
    found: list[str] = []
    for key in keys:
        if (yield from reads.blocked_jobs(key, 1)):
            found.append(key)
    return found

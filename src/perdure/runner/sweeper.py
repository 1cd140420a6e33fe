"""Retention at work: an hourly sweep, and `collect` for `perdure gc`. Pages keep each transaction short."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import msgspec

from perdure.engine import retention
from perdure.engine.retention import Page, Retention
from perdure.engine.turn import Decision
from perdure.model.errors import StoreError
from perdure.runner.decider import Decider

_log = logging.getLogger("perdure.retention")

_PAGE = 500
_FIRST = 60.0
_EVERY = 3600.0


class Collected(msgspec.Struct):
    """What a collection removed, or would remove."""

    runs: int = 0
    events: int = 0
    agent_runs: int = 0
    threads: int = 0


class Sweeper:
    """Removes what is past its time. In the background it runs on real time, whatever the node's clock."""

    def __init__(self, decider: Decider, policy: Retention) -> None:
        self._decider = decider
        self.policy = policy
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._sweeping())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _sweeping(self) -> None:
        await asyncio.sleep(_FIRST)
        while True:
            try:
                await self.collect()
            except StoreError as error:
                _log.error("retention could not sweep, trying again in an hour: %s", error)
            await asyncio.sleep(_EVERY)

    async def collect(self, *, dry_run: bool = False) -> Collected:
        """Removes ended runs, the events that no run needs any more, and what agents need not remember; how many."""
        now, policy, found = self._decider.clock.now(), self.policy, Collected()
        for age, failed in ((policy.completed, False), (policy.failed, True)):
            if age is not None:
                async for ids in self._pages(
                    lambda cursor, age=age, failed=failed: retention.expired_runs(  # type: ignore[misc]
                        now, age, failed=failed, cursor=cursor, limit=_PAGE
                    )
                ):
                    found.runs += len(ids)
                    if not dry_run:
                        await self._decider.decide(retention.delete_runs, ids)
        if policy.events is not None:
            events = policy.events
            async for ids in self._pages(
                lambda cursor: retention.expired_events(now, events, cursor=cursor, limit=_PAGE)
            ):
                found.events += len(ids)
                if not dry_run:
                    await self._decider.decide(retention.delete_events, ids)
        await self._collect_of_agents(found, now, dry_run)
        if not dry_run:
            await self._decider.decide(retention.sweep)
        return found

    async def _collect_of_agents(self, found: Collected, now: int, dry_run: bool) -> None:
        while not dry_run and await self._decider.decide(retention.reconcile_agent_runs, _PAGE) == _PAGE:
            pass
        async for ids in self._pages(lambda cursor: retention.expired_agent_runs(now, cursor=cursor, limit=_PAGE)):
            found.agent_runs += len(ids)
            if not dry_run:
                await self._decider.decide(retention.delete_agent_runs, ids)
        age = self.policy.threads
        if age is not None:
            async for ids in self._pages(
                lambda cursor: retention.expired_threads(now, age, cursor=cursor, limit=_PAGE)
            ):
                found.threads += len(ids)
                if not dry_run:
                    await self._decider.decide(retention.delete_threads, ids)

    async def _pages(self, page: Callable[[str], Decision[Page]]) -> AsyncIterator[list[str]]:
        cursor: str | None = ""
        while cursor is not None:
            found = await self._decider.view(lambda at=cursor: page(at))  # type: ignore[misc]
            if found.ids:
                yield found.ids
            cursor = found.cursor

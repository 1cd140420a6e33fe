"""Keeps apps synced: those that were named, those that are known, and those that discovery finds.

Each URL is asked on its own, so that a slow app holds up nobody. One that cannot be synced is asked again at growing
intervals, and the log is told when the reason changes. A URL that was named is asked until an app is there, even where
known apps are not polled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from perdure.apps.asking import Asker
from perdure.apps.discovery import Discovery
from perdure.apps.registry import Outcome, Registry
from perdure.apps.settings import Polling
from perdure.apps.syncing import Syncer
from perdure.model.errors import StoreError

_log = logging.getLogger("perdure.apps")

_LONGEST: Final = 60.0
"""How long an app that cannot be synced is left alone at most (s)."""
_FIRST: Final = 1.0
"""How soon an app that is awaited is asked again at first (s): it is being started at the same time, often."""


_SCAN_EVERY: Final = 5.0


class _Target:
    """A URL that is asked, and how that went."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.app_id = ""
        self.failures = 0
        self.next_at = 0.0
        self.asking: asyncio.Task[None] | None = None


class Poller:
    """Asks apps to register, until it is closed."""

    def __init__(self, registry: Registry, asker: Asker, polling: Polling) -> None:
        self._registry = registry
        self._asker = asker
        self._syncer = Syncer(registry, asker)
        self._polling = polling
        self._named = set(polling.urls)
        self._targets: dict[str, _Target] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to ask."""
        self._registry.polling = self._polling
        self._registry.sync_at = self.sync
        for url in self._polling.urls:
            self._registry.add(url)
        loop = asyncio.get_running_loop()
        self._tasks.append(loop.create_task(self._lasting(self._poll)))
        if self._polling.discovery:
            discovery = Discovery(self._asker, self._polling.port, self._polling.app_port)
            self._tasks.append(loop.create_task(self._lasting(partial(self._discover, discovery))))

    async def sync(self, url: str) -> Outcome:
        """Syncs the app at a URL now, whoever else is asked. Raises `StoreError`."""
        outcome = await self._ask_at(url)
        if outcome.error:
            await self._registry.failed(outcome.app_id or url, outcome.error, outcome.message)
        else:
            self._registry.arrived(url)
            await self._registry.recovered(outcome.app_id)
        return outcome

    async def _ask_at(self, url: str) -> Outcome:
        return await self._syncer.sync(url, [other for other in self._targets if other != url])

    async def close(self) -> None:
        """Asks nobody any more."""
        self._registry.sync_at = None
        tasks = [*self._tasks, *(each.asking for each in self._targets.values() if each.asking is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._asker.close()

    async def _lasting(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                return await work()
            except Exception:
                # Whatever it was, apps that start later must find somebody who asks.
                _log.exception("polling failed; it goes on")
                await asyncio.sleep(_LONGEST / 2)

    async def _discover(self, discovery: Discovery) -> None:
        while not self._registry.synced_any:
            for url in await discovery.scan(asyncio.get_running_loop().time()):
                self._registry.add(url)
            await asyncio.sleep(self._polling.interval or _SCAN_EVERY)

    async def _poll(self) -> None:
        while True:
            self._registry.changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._ask_due()):
                    await self._registry.changed.wait()

    def _ask_due(self) -> float:
        """Asks whoever it is time for; returns when to look again (s)."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._choose()
        for target in self._targets.values():
            if target.asking is None and target.next_at <= now:
                target.asking = loop.create_task(self._ask(target))
        waiting = [target.next_at for target in self._targets.values() if target.asking is None]
        return min(waiting, default=now + _LONGEST) - now

    def _choose(self) -> None:
        """Whom to ask: who was named, who is awaited, and, if apps are polled, who is known."""
        rows = [row for row in self._registry.apps() if row.method == "serve" and row.url]
        known = {row.url: row.id for row in rows if row.id != row.url}
        # An app may be served under another URL than the one at which it was named: it is asked there.
        of_named = {target.app_id for url, target in self._targets.items() if url in self._named}
        wanted = self._named | {row.url for row in rows if row.id == row.url}
        if self._polling.interval:
            wanted |= {url for url, app_id in known.items() if app_id not in of_named}
        for url in [url for url, target in self._targets.items() if url not in wanted and target.asking is None]:
            del self._targets[url]
        for url in wanted:
            target = self._targets.setdefault(url, _Target(url))
            target.app_id = known.get(url, target.app_id)

    async def _ask(self, target: _Target) -> None:
        try:
            await self._note(target, await self._ask_at(target.url))
        except StoreError as error:
            _log.error("the app at %s cannot be synced now: %s", target.url, error)
            target.failures += 1
        finally:
            target.next_at = asyncio.get_running_loop().time() + self._pause(target)
            target.asking = None
            self._registry.changed.set()

    async def _note(self, target: _Target, outcome: Outcome) -> None:
        if outcome.error:
            target.failures += 1
            known_as = outcome.app_id or target.app_id or target.url
            await self._registry.failed(known_as, outcome.error, outcome.message)
            return
        target.failures = 0
        target.app_id = outcome.app_id
        self._registry.arrived(target.url)
        await self._registry.recovered(outcome.app_id)
        if not self._polling.interval:
            self._named.discard(target.url)

    def _pause(self, target: _Target) -> float:
        """How long a URL is left alone (s)."""
        if target.failures == 0:
            return self._polling.interval or _LONGEST
        first = (self._polling.interval if target.app_id else 0) or _FIRST
        return min(first * float(2 ** min(target.failures - 1, 10)), _LONGEST)

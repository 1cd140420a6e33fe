"""Branch environments beside a node: each is a node of its own, with a database, keys, limits and apps of its own.

Which there are, the main node's store remembers; so all nodes on it agree, and each opens every environment that is
not archived, for work may be due in it though nobody asks. They share a process and nothing else: what happens in
one is neither seen nor held up in another. Apps in this process belong to the main environment alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Final

from starlette.types import ASGIApp

from perdure.apps.asking import Asker
from perdure.apps.polling import Poller
from perdure.apps.settings import Polling
from perdure.engine import environments as decisions
from perdure.engine.environments import TooManyEnvironmentsError
from perdure.model.environments import EnvironmentRow
from perdure.model.errors import PerdureError, StoreError
from perdure.model.keys import Keys
from perdure.node import Node
from perdure.server import Guard, make_app
from perdure.server.envelope import ApiError
from perdure.store.naming import database_of, make_database, shown

_log = logging.getLogger("perdure.environments")

DEFAULT_MOST: Final = 20
_LOOK_EVERY: Final = 2.0
"""How often a node looks for environments that another has made or archived (seconds)."""

MakeNode = Callable[[str, Keys | None, str], Node]
"""Makes the node of an environment: of its database, with its keys, under its id."""


class _Branch:
    """An environment that is open."""

    def __init__(self, node: Node, app: ASGIApp, poller: Poller | None) -> None:
        self.node = node
        self.app = app
        self.poller = poller

    async def stop(self) -> None:
        if self.poller is not None:
            await self.poller.close()
        await self.node.stop()


class Environments:
    """The branch environments beside a node that has been started, and is stopped after them.

    `db` is the node's database, `guard` what stands before its server; `most` how many environments there may be that
    are not archived. `polling`: how their apps on other servers are kept synced; None asks none. `draining` says
    whether the server is about to stop.
    """

    def __init__(
        self,
        main: Node,
        db: str,
        guard: Guard,
        make_node: MakeNode,
        *,
        most: int = DEFAULT_MOST,
        polling: Polling | None = None,
        draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self._main = main
        self._db = db
        self._guard = guard
        self._make_node = make_node
        self._most = most
        self._polling = polling
        self._draining = draining
        self._branches: dict[str, _Branch] = {}
        # One opens or closes at a time: two nodes in a process must not have the same file.
        self._changing = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None

    @property
    def nodes(self) -> list[Node]:
        """The nodes of the environments that are open."""
        return [branch.node for branch in self._branches.values()]

    async def start(self) -> None:
        """Opens the environments that are not archived. One that cannot be opened is opened when it is asked for."""
        await self._look()
        if not self._main.store.exclusive:
            self._looking = asyncio.create_task(self._keep_looking())

    async def stop(self) -> None:
        """Stops all of them."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        async with self._changing:
            branches = list(self._branches.values())
            self._branches.clear()
            await asyncio.gather(*(branch.stop() for branch in branches))

    async def rows(self) -> Sequence[EnvironmentRow]:
        """All environments, archived ones included."""
        return await self._main.view(decisions.environments)

    async def create(self, name: str) -> EnvironmentRow:
        """Makes an environment; the one there is, if there is one. Raises `ApiError` where there are too many."""
        async with self._changing:
            row = await self._create(name)
            if row.archived_at is None:
                await self._open(name)
            return row

    async def archive(self, name: str, archived: bool) -> EnvironmentRow:
        """Lays an environment to rest, or wakes it. Raises `ApiError`."""
        async with self._changing:
            try:
                row = await self._main.decide(decisions.archive, name, archived, self._most)
            except TooManyEnvironmentsError as error:
                raise _too_many(error) from error
            if row is None:
                raise _missing(name)
            await (self._close(name) if archived else self._open(name))
            return row

    def opened(self, name: str) -> ASGIApp | None:
        """The server of an environment that is open."""
        branch = self._branches.get(name)
        return None if branch is None else branch.app

    async def open(self, name: str, *, make: bool) -> ASGIApp:
        """The server of an environment. Raises `ApiError`, also where there is none and `make` does not make one."""
        async with self._changing:
            branch = self._branches.get(name)
            if branch is not None:
                return branch.app
            row = next((row for row in await self.rows() if row.name == name), None)
            if row is None and make:
                row = await self._create(name)
            if row is None:
                raise _missing(name)
            if row.archived_at is not None:
                raise ApiError(
                    409, f"the environment {name} is archived: wake it with `perdure env unarchive`", "archived"
                )
            return (await self._open(name)).app

    async def _create(self, name: str) -> EnvironmentRow:
        try:
            return await self._main.decide(decisions.create, name, self._most)
        except TooManyEnvironmentsError as error:
            raise _too_many(error) from error

    async def _open(self, name: str) -> _Branch:
        """Raises `StoreError`."""
        known = self._branches.get(name)
        if known is not None:
            return known
        db = database_of(self._db, name)
        await make_database(self._db, db)
        guard = self._guard.of_environment(name)
        node = self._make_node(db, guard.keys, guard.environment_id)
        try:
            await node.start()
        except OSError as error:
            raise StoreError(f"cannot open {shown(db)}: {error.strerror}") from error
        poller = None
        if self._polling is not None:
            asker = Asker(guard.kind.decode(), guard.keys, node.clock.now, name)
            poller = Poller(node.registry, asker, self._polling)
            poller.start()
        branch = _Branch(node, make_app(node, guard, draining=self._draining), poller)
        self._branches[name] = branch
        _log.info("environment %s is open, its database is %s", name, shown(db))
        return branch

    async def _close(self, name: str) -> None:
        branch = self._branches.pop(name, None)
        if branch is not None:
            await branch.stop()

    async def _look(self) -> None:
        """Opens and closes what the store says."""
        active = {row.name for row in await self.rows() if row.archived_at is None}
        async with self._changing:
            for name in self._branches.keys() - active:
                await self._close(name)
            for name in sorted(active - self._branches.keys()):
                try:
                    await self._open(name)
                except PerdureError as error:
                    _log.error("the environment %s cannot be opened: %s", name, error)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            with contextlib.suppress(StoreError):
                await self._look()


def _missing(name: str) -> ApiError:
    return ApiError(
        404,
        f"there is no environment {name}: make it with `perdure env create`; events and apps that come with its own "
        "keys (`perdure env keys`), or to a server without keys, make it, too",
    )


def _too_many(error: TooManyEnvironmentsError) -> ApiError:
    return ApiError(409, str(error), "too_many_environments")

"""Scenarios: what is tried with several apps, all at the same time, each reported as a test of its own.

What they do is mostly waiting, so a hundred of them take little longer than the slowest. A module collects its
scenarios and gives each a test:

    steps = Scenarios("v4", "py-fastapi")

    @steps
    async def two_steps(app: SdkApp) -> None: ...

    @pytest.mark.parametrize("case", steps.cases, ids=str)
    async def test_step(case: Case, outcomes: Outcomes) -> None:
        await outcomes.of(case)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from tests.support.sdk_apps import Fleet, SdkApp

Body = Callable[[SdkApp], Awaitable[None]]
_AT_A_TIME = 32
_PATIENCE = 90.0


class Case(NamedTuple):
    """One scenario with one app."""

    body: Body
    app: str

    def __str__(self) -> str:
        return f"{self.body.__name__}-{self.app}"


class Scenarios:
    """The scenarios of a module. Each is tried with the apps given here, or with those given to `only`."""

    def __init__(self, *apps: str) -> None:
        self._apps = apps
        self.cases: list[Case] = []

    def __call__(self, body: Body) -> Body:
        return self.only(*self._apps)(body)

    def only(self, *apps: str) -> Callable[[Body], Body]:
        """A decorator: the scenario is for these apps."""

        def collect(body: Body) -> Body:
            self.cases.extend(Case(body, app) for app in apps)
            return body

        return collect


class Outcomes:
    """Runs cases at the same time, and tells how each went."""

    def __init__(self, fleet: Fleet, cases: Iterable[Case]) -> None:
        self._fleet = fleet
        self._room = asyncio.Semaphore(_AT_A_TIME)
        self._tasks = {case: asyncio.create_task(self._run(case)) for case in cases}

    async def of(self, case: Case) -> None:
        """Waits for a case; raises what it raised."""
        await self._tasks[case]

    async def close(self) -> None:
        """Ends what nobody waits for any more."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _run(self, case: Case) -> None:
        app = await self._fleet.app(case.app)
        async with self._room:
            try:
                async with asyncio.timeout(_PATIENCE):
                    await case.body(app)
            except Exception as error:
                error.add_note(f"--- the server printed\n{self._fleet.server.printed}\n--- the app\n{app.printed}")
                raise

"""`/health/live` and `/health/ready`: what whoever runs servers asks them, without a key.

Live is a process whose event loop turns: one that is not wants to be started again. Ready is one that can be given
requests: its store answers, and it is not about to stop. A database that is away makes no server unlive, for starting
it again would not help.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.engine import reads
from perdure.model.errors import StoreError
from perdure.server.backend import Backend
from perdure.server.envelope import ApiError, reply

_log = logging.getLogger("perdure.server")
_PATIENCE: Final = 2.0
"""How long the store may take to answer the smallest of questions (seconds)."""


def routes(backend: Backend, draining: Callable[[], bool]) -> list[Route]:
    """The routes; `draining` says whether the server is about to stop."""
    probe = _Probe(backend)

    async def health(request: Request) -> Response:
        return reply({"status": 200, "message": "OK"})

    async def ready(request: Request) -> Response:
        if draining():
            raise ApiError(503, "the server is stopping")
        if not await probe.answers():
            raise ApiError(503, "the store does not answer")
        return reply({"status": 200, "message": "OK"})

    return [
        Route("/health", health),
        Route("/health/", health),
        Route("/health/live", health),
        Route("/health/ready", ready),
    ]


class _Probe:
    """Asks the store, once for all who want to know now: a store that is silent is not asked more and more."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._asking: asyncio.Task[bool] | None = None

    async def answers(self) -> bool:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        # It is not cancelled: giving up a connection that is being made takes as long as making it.
        done, _ = await asyncio.wait([self._asking], timeout=_PATIENCE)
        if not done:
            _log.warning("not ready: the store does not answer within %s s", _PATIENCE)
        return bool(done) and self._asking.result()

    async def _ask(self) -> bool:
        try:
            await self._backend.view(reads.next_due)
        except StoreError as error:
            _log.warning("not ready: the store does not answer: %s", error)
            return False
        return True

"""What only the node that drives a run can do, asked of it by another: a request and its answer among the news.

Answers are words and what they are about. Nobody who is asked may be there any more: who asks waits for a while only.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import Awaitable, Callable
from typing import Final

_PATIENCE: Final = 5.0

Errand = Callable[[str, bytes], Awaitable[str]]
"""Does something about a run with a body, and answers."""


class Errands:
    """Asks, and does what is asked: `doing` has what this node can do, by name. `tell` tells all other nodes."""

    def __init__(self, node: str, tell: Callable[[str], None]) -> None:
        self.doing: dict[str, Errand] = {}
        self._node = node
        self._tell = tell
        self._numbers = itertools.count()
        self._asked: dict[str, asyncio.Future[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, node: str, what: str, run_id: str, body: bytes) -> str:
        """The answer of another node; raises `TimeoutError` where none comes."""
        number = f"{self._node}-{next(self._numbers)}"
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        encoded = base64.b64encode(body).decode()
        self._tell(f"ask {node} {number} {what} {run_id} {encoded}")
        try:
            return await asyncio.wait_for(answer, _PATIENCE)
        finally:
            del self._asked[number]

    def heard_ask(self, rest: str) -> None:
        node, number, what, run_id, encoded = rest.split(" ", 4)
        if node == self._node and what in self.doing:
            task = asyncio.get_running_loop().create_task(self._do(number, what, run_id, base64.b64decode(encoded)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def heard_answer(self, rest: str) -> None:
        number, _, answer = rest.partition(" ")
        waiting = self._asked.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    async def _do(self, number: str, what: str, run_id: str, body: bytes) -> None:
        answer = await self.doing[what](run_id, body)
        self._tell(f"answer {number} {answer}")

    async def stop(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

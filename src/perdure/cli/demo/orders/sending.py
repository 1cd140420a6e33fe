"""The user who sends the orders: batches over HTTP, refused ones taken apart, unanswered ones sent again.

A request carries `x-inngest-event-id-seed`, from which the server makes the ids of its events: a request that is
repeated, because the answer to the first was lost with the server, changes nothing.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import Callable

import aiohttp
import msgspec


class Line(msgspec.Struct, frozen=True):
    """A line of the file, as it stands there; `number` counts from 1."""

    number: int
    text: str


class Accepted(msgspec.Struct, frozen=True):
    """An order that the server took, under its internal event id."""

    line: Line
    event_id: str


class Refusal(msgspec.Struct, frozen=True):
    """A line that the server refused, and why."""

    number: int
    status: int
    message: str


class _Answer(msgspec.Struct):
    ids: list[str] = []
    status: int = 0
    error: str = ""


class Sender:
    """Sends lines in batches; `accepted` and `refused` grow as answers come."""

    def __init__(self, http: aiohttp.ClientSession, url: str, batch_size: int = 10) -> None:
        self.accepted: list[Accepted] = []
        self.refused: list[Refusal] = []
        self.refused_batches: list[str] = []
        self.unanswered = 0
        self._http = http
        self._url = f"{url}/e/demo"
        self.batch_size = batch_size

    async def send(self, lines: list[Line], *, pause: float, sent: Callable[[], None]) -> None:
        """Sends everything, one batch after the other, with a pause (s) and a call of `sent` after each."""
        for start in range(0, len(lines), self.batch_size):
            batch = lines[start : start + self.batch_size]
            if not await self._send(batch):
                # A batch with a bad event is refused whole, so its lines go one by one.
                for line in batch:
                    await self._send([line])
            sent()
            await asyncio.sleep(pause)

    async def _send(self, batch: list[Line]) -> bool:
        body = "[" + ",".join(line.text for line in batch) + "]" if len(batch) > 1 else batch[0].text
        status, answer = await self.post(body)
        if status == 200:
            self.accepted += [Accepted(line, event_id) for line, event_id in zip(batch, answer.ids, strict=True)]
            return True
        if len(batch) > 1:
            self.refused_batches.append(f"lines {batch[0].number} to {batch[-1].number}: {answer.error}")
            return False
        self.refused.append(Refusal(batch[0].number, status, answer.error))
        return True

    async def post(self, body: str) -> tuple[int, _Answer]:
        """Posts a body until it is answered: while nobody listens the same request is sent again."""
        seed = f"{time.time_ns() // 1_000_000},{base64.b64encode(secrets.token_bytes(10)).decode()}"
        headers = {"content-type": "application/json", "x-inngest-event-id-seed": seed}
        while True:
            try:
                async with self._http.post(self._url, data=body.encode(), headers=headers) as response:
                    return response.status, msgspec.json.decode(await response.read(), type=_Answer)
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError):
                self.unanswered += 1
                await asyncio.sleep(0.1)

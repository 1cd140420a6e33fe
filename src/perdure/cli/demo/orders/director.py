"""The course of the demo: sending goes on while the server is killed and started again; then approvals, then the end.

The moment of a kill is chosen by the ledger alone: some steps are under way, some orders sleep, some wait.
"""

from __future__ import annotations

import asyncio
import json
import time

import aiohttp
import click

from perdure.cli.demo.ledger import Ledger
from perdure.cli.demo.orders.evidence import Followed, Kill, Order, order_of
from perdure.cli.demo.orders.sending import Line, Sender
from perdure.cli.demo.process import Server
from perdure.cli.demo.recorded import Recorded, Trace
from perdure.cli.demo.show import Show
from perdure.model.json import Json

_SENDING = 4.0
"""Sending lasts this long (s) at least, so that a kill finds orders in every state."""
_PAUSE = 0.1
_FINISH_TIMEOUT = 60.0
_MOMENT_TIMEOUT = 8.0
_ASLEEP = 500
_WAITING = 1500
"""An order charged less than `_ASLEEP` ms ago sleeps; one charged `_WAITING` ms ago that no carrier was called for
has slept and waits for its approval."""


class Director:
    """Runs the demo on a server that is up; `kills` says what was done to it, `doctor` how it was at the end."""

    def __init__(self, server: Server, http: aiohttp.ClientSession, show: Show) -> None:
        self.ledger = Ledger(server.ledger)
        self.kills: list[Kill] = []
        self.sender = Sender(http, server.url)
        self.doctor: dict[str, Json] = {}
        self._server = server
        self._recorded = Recorded(http, server.url)
        self._show = show
        self._total = 0

    async def send(self, lines: list[Line], kills: int) -> None:
        """Sends all lines, and kills and restarts the server so many times meanwhile."""
        self._total = len(lines)
        pause = max(_PAUSE, _SENDING / (len(lines) / self.sender.batch_size))
        sending = asyncio.create_task(self.sender.send(lines, pause=pause, sent=self._progress))
        try:
            for number in range(1, kills + 1):
                wanted = len(lines) * number // (kills + 1)
                while len(self.sender.accepted) + len(self.sender.refused) < wanted and not sending.done():
                    await asyncio.sleep(0.01)
                await self._kill(number)
            await sending
        finally:
            sending.cancel()
        self._show.say(
            f"all sent: {len(self.sender.accepted)} accepted, {len(self.sender.refused)} refused, "
            f"{self.sender.unanswered} requests met no server and were sent again"
        )

    async def _kill(self, number: int) -> None:
        """Waits for the right moment, kills, and starts again on the same file and port."""
        deadline = time.monotonic() + _MOMENT_TIMEOUT
        while not self._is_moment() and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        at, pid = _now(), self._server.pid
        await self._server.kill()
        self.kills.append(Kill(pid, at))
        self.ledger.refresh()
        cut_off = sum(entry.pid == pid for entry in self.ledger.open_calls())
        self._show.say(f"SIGKILL {number}: process {pid} is gone, {cut_off} steps were under way")
        await self._server.start()
        self._show.say(f"started again on the same file: process {self._server.pid}")

    def _is_moment(self) -> bool:
        self.ledger.refresh()
        now, pid = _now(), self._server.pid
        under_way = sum(entry.pid == pid for entry in self.ledger.open_calls())
        charged, booked = self.ledger.effect_times("charge"), self.ledger.effect_times("book carrier")
        ages = [now - at for order_id, at in charged.items() if order_id not in booked]
        return under_way >= 3 and min(ages, default=_ASLEEP) < _ASLEEP and max(ages, default=0) > _WAITING

    def _progress(self) -> None:
        self.ledger.refresh()
        charged, done = len(self.ledger.effect_times("charge")), len(self.ledger.effect_times("confirm"))
        answered = len(self.sender.accepted) + len(self.sender.refused)
        self._show.progress(f"{answered} of {self._total} answered, {charged} charged, {done} on their way")

    async def finish(self) -> list[Followed]:
        """Approves what waits, waits until every order has ended, and reads what is recorded of each."""
        orders = [order_of(item.line, item.event_id) for item in self.sender.accepted]
        runs = await self._recorded.each(self._recorded.runs_of, [order.event_id for order in orders])
        run_ids = [[str(run["run_id"]) for run in found] for found in runs]
        open_runs = {found[0]: order for order, found in zip(orders, run_ids, strict=True) if found}
        approved = await self._until_ended(open_runs)
        self._show.say(f"every order has ended; {approved} of them after an approval; reading what is recorded")
        self.doctor = await self._recorded.doctor()
        return await self._recorded.each(self._follow, list(zip(orders, run_ids, strict=True)))

    async def _until_ended(self, open_runs: dict[str, Order]) -> int:
        approved: set[str] = set()
        deadline = time.monotonic() + _FINISH_TIMEOUT
        while open_runs:
            if time.monotonic() > deadline:
                names = ", ".join(order.order_id for order in list(open_runs.values())[:5])
                raise click.ClickException(f"{len(open_runs)} orders did not end in {_FINISH_TIMEOUT:.0f} s: {names}")
            for trace in await self._recorded.each(self._recorded.trace, list(open_runs)):
                if trace.status not in ("RUNNING", "QUEUED", "WAITING"):
                    del open_runs[trace.run_id]
                elif trace.run_id not in approved and _waits(trace):
                    approved.add(trace.run_id)
                    await self._approve(open_runs[trace.run_id])
            self._progress()
            await asyncio.sleep(0.2)
        return len(approved)

    async def _approve(self, order: Order) -> None:
        event = {"name": "shop/order.approved", "data": {"order_id": order.order_id, "by": "the demo"}}
        status, answer = await self.sender.post(json.dumps(event))
        if status != 200:
            raise click.ClickException(f"the approval of {order.order_id} was refused: {answer.error}")

    async def _follow(self, pair: tuple[Order, list[str]]) -> Followed:
        order, run_ids = pair
        fulfil = await self._recorded.trace(run_ids[0]) if run_ids else None
        ship = None
        output = fulfil.output if fulfil is not None else None
        shipment = output.get("shipment") if isinstance(output, dict) else None
        if shipment is not None:
            ship = await self._recorded.trace(shipment["run_id"])
        return Followed(order, run_ids, fulfil, ship)


def _waits(trace: Trace) -> bool:
    return any(step.op == "WAIT_FOR_EVENT" and step.ended_at is None for step in trace.steps)


def _now() -> int:
    return time.time_ns() // 1_000_000

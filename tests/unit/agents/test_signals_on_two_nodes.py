"""Signals between processes that share a PostgreSQL database: nothing but the database connects them."""

from __future__ import annotations

import asyncio

from perdure.agents.signals import Signals
from perdure.agents.storage import AgentStorage, open_storage
from tests.support.agent_storage import a_run
from tests.unit.agents.test_signals import HERE, FakeRuns, heard


async def test_a_signal_from_another_node_reaches_the_run_and_its_followers(postgres_url: str) -> None:
    async with open_storage(postgres_url) as here, open_storage(postgres_url) as there:
        runs = FakeRuns(there)
        async with Signals(here, runs).subscribe("t", "u") as following:
            await runs.begin(a_run("r"))
            assert await heard(following, 1) == [("start", "r")]
            sent = await asyncio.gather(*(_alternately(here, there, runs, n) for n in range(20)))
            claimed = await there.claim_signals("r", "llm:1")
            assert sorted(each["id"] for each in claimed) == sorted(sent)
            assert await here.claim_signals("r", "llm:2") == []
            await runs.finish("r")
            accepted = await Signals(here, FakeRuns(here)).send_message("ops", "anybody?", **HERE)
            assert accepted.run_id == f"signal-{accepted.signal.id}"


async def _alternately(here: AgentStorage, there: AgentStorage, runs: FakeRuns, number: int) -> str:
    sender = Signals((here, there)[number % 2], runs)
    accepted = await sender.send_message("ops", f"note {number}", **HERE)
    assert accepted.run_id == "r"
    return accepted.signal.id

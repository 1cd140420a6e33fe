"""What agents need not remember goes, with all that is its own; and runs that were cut off are found to be over."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from perdure import App, Context, Node, Retention, embedded, step
from perdure.agents.storage import AgentRun, AgentStorage, Approval
from perdure.engine.views import AgentHealth
from perdure.model.errors import ConfigError
from perdure.testing import VirtualClock
from tests.support.agent_storage import said

HOUR = 3_600_000


@asynccontextmanager
async def keeping(policy: Retention | None = None) -> AsyncGenerator[tuple[Node, AgentStorage, VirtualClock]]:
    """An engine with an app that ends in every way, and the agents' storage on its store."""
    app, clock = App("ops"), VirtualClock()

    @app.function("agent", trigger="ops/agent", retries=0)
    async def agent(ctx: Context) -> None:
        if ctx.event.data["how"] == "fail":
            raise ValueError("no")
        if ctx.event.data["how"] == "wait":
            await step.sleep("long", "300d")

    async with embedded(app, db=":memory:", clock=clock, retention=policy) as node:
        yield node, AgentStorage(node.store, now=clock.now, ids=node.decider.ids), clock


async def put(storage: AgentStorage, run_id: str, keep_for: int | None = None) -> None:
    """A run with a question, which is over if it is said how long it is kept."""
    await storage.put_run(AgentRun(run_id, "ops", "1", "h", "t", "u"))
    await storage.put_approval(Approval(run_id, "c1", "ops", "1", "pay", {}, "h"))
    if keep_for is not None:
        await storage.set_run_status(run_id, "finished", keep_for=keep_for)


async def test_runs_go_when_their_time_is_over() -> None:
    async with keeping() as (node, storage, clock):
        await put(storage, "short", keep_for=HOUR)
        await put(storage, "long", keep_for=100 * HOUR)
        await put(storage, "parked")
        await clock.advance("2h")
        would = await node.sweeper.collect(dry_run=True)
        did = await node.sweeper.collect()
        assert (would.agent_runs, did.agent_runs) == (1, 1)
        assert await storage.approval("short", "c1") is None
        await clock.advance("400d")
        await node.sweeper.collect()
        assert [run.run_id for run in (await storage.runs()).items] == ["parked"]
        parked = await storage.approval("parked", "c1")
        assert parked is not None and parked.status == "pending"


async def test_threads_are_kept_unless_it_is_said_how_long() -> None:
    for policy, kept in ((None, 2), (Retention(threads="30d"), 1)):
        async with keeping(policy) as (node, storage, clock):
            for thread in ("old", "new"):
                await storage.create_thread("u", id=thread)
                await storage.save_messages([said(f"in-{thread}", thread=thread)])
            await clock.advance("40d")
            await storage.save_messages([said("again", thread="new")])
            found = await node.sweeper.collect()
            assert (found.threads, (await storage.threads()).total) == (2 - kept, kept)
            assert (await storage.message("in-old") is None) == (kept == 1)
            assert await storage.message("in-new") is not None


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="threads: "):
        Retention(threads="soon")


async def test_collection_of_agents_goes_on_beyond_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.runner.sweeper._PAGE", 3)
    async with keeping(Retention(threads="1d")) as (node, storage, clock):
        for n in range(8):
            await put(storage, f"r{n}", keep_for=HOUR)
            await storage.create_thread("u")
        await clock.advance("2d")
        found = await node.sweeper.collect()
        assert (found.agent_runs, found.threads) == (8, 8)
        assert ((await storage.runs()).total, (await storage.threads()).total) == (0, 0)


@pytest.mark.parametrize(
    ("how", "status"), [("complete", "finished"), ("fail", "failed"), ("wait", "aborted"), ("elsewhere", "running")]
)
async def test_a_run_whose_run_of_the_engine_is_over_is_over(how: str, status: str) -> None:
    async with keeping() as (node, storage, _):
        await put(storage, "r")
        if how == "elsewhere":
            await storage.bind_run("r", "a run of another server")
        else:
            handle = await node.trigger("ops-agent", {"how": how})
            await storage.bind_run("r", handle.run_id)
            await node.settle()
            if how == "wait":
                assert await storage.reconcile() == 0, "it goes on"
                await node.cancel(handle.run_id)
        await node.sweeper.collect()
        found = await storage.run("r")
        assert found is not None and found.status == status
        question = await storage.approval("r", "c1")
        assert question is not None and question.status == ("pending" if status == "running" else "aborted")
        assert await storage.reconcile() == 0


async def test_an_operator_is_told_how_agents_stand() -> None:
    async with keeping() as (node, storage, _):
        await storage.create_thread("u", id="t")
        await put(storage, "r")
        assert (await node.health()).agents == AgentHealth(1, 1, [])
        await storage.put_run(AgentRun("over", "ops", "1", "h"))
        await storage.set_run_status("over", "finished")
        await storage.put_approval(Approval("over", "c1", "ops", "1", "pay", {}, "h"))
        assert (await node.health()).agents.stranded == [("over", "c1")]

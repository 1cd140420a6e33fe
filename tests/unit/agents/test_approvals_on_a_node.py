"""On the engine itself a decision and the event that tells the run of it are one transaction."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from perdure import App, Context, Node, embedded, step
from perdure.agents.errors import ConflictError
from perdure.agents.storage import AgentRun, AgentStorage, Approval
from perdure.engine.agents import approvals
from perdure.engine.agents.approvals import DECIDED_EVENT, ApprovalDecision, Outcome
from perdure.engine.turn import Decision, Turn
from perdure.model.json import Json
from perdure.testing import VirtualClock


def asking() -> App:
    app = App("ops")

    @app.function("ask", trigger="ops/ask")
    async def ask(ctx: Context) -> Json:
        event = await step.wait_for_event(
            "approve:c1",
            event=DECIDED_EVENT,
            timeout="1h",
            if_="async.data.runId == event.data.runId && async.data.toolCallId == 'c1'",
        )
        return None if event is None else event.data

    return app


async def asked(node: Node) -> AgentStorage:
    storage = AgentStorage(node.store, now=node.clock.now, ids=node.decider.ids)
    await storage.put_run(AgentRun("r", "ops", "1", "h"))
    await storage.put_approval(Approval("r", "c1", "ops", "1", "pay", {"sum": 5}, "h5"))
    return storage


async def test_a_decision_wakes_the_run_that_waits_for_it() -> None:
    async with embedded(asking(), db=":memory:", clock=VirtualClock()) as node:
        storage = await asked(node)
        run = await node.trigger("ops-ask", {"runId": "r"})
        await node.settle()
        decision = ApprovalDecision(True, data={"note": "fine"}, by="ann")
        outcomes = await asyncio.gather(
            *(node.decide(approvals.decide_and_tell, "r", "c1", decision) for _ in range(5))
        )
        assert sorted(each.verdict for each in outcomes) == ["decided"] * 4 + ["taken"]
        told = await run.result()
        assert (told["approved"], told["data"], told["by"]) == (True, {"note": "fine"}, "ann")
        taken = next(each for each in outcomes if each.verdict == "taken")
        assert storage.approval_outcome("r", "c1", taken).status == "approved"
        with pytest.raises(ConflictError, match="is approved already"):
            storage.approval_outcome("r", "c1", next(each for each in outcomes if each.verdict == "decided"))


async def test_a_decision_that_is_not_committed_tells_nobody() -> None:
    def failing(turn: Turn, decision: ApprovalDecision) -> Decision[Outcome]:
        outcome = yield from approvals.decide_and_tell(turn, "r", "c1", decision)
        assert outcome.verdict == "taken"
        raise ArithmeticError("between the decision and its commit")

    async with embedded(asking(), db=":memory:", clock=VirtualClock()) as node:
        storage = await asked(node)
        run = await node.trigger("ops-ask", {"runId": "r"})
        await node.settle()
        with pytest.raises(ArithmeticError):
            await node.decide(failing, ApprovalDecision(True))
        found = await storage.approval("r", "c1")
        assert found is not None and found.status == "pending"
        await node.settle()
        assert (await run.status()).name == "RUNNING"
        outcome = await node.decide(approvals.decide_and_tell, "r", "c1", ApprovalDecision(False, reason="no"))
        assert outcome.verdict == "taken"
        assert (await run.result())["reason"] == "no"


async def test_a_decision_after_a_restart_reaches_the_run(tmp_path: Path) -> None:
    begin = partial(embedded, asking(), db=tmp_path / "db", clock=VirtualClock())
    async with begin() as node:
        await asked(node)
        run_id = (await node.trigger("ops-ask", {"runId": "r"})).run_id
        await node.settle()
    async with begin() as node:
        await node.decide(approvals.decide_and_tell, "r", "c1", ApprovalDecision(True))
        assert (await node.run(run_id).result())["approved"] is True

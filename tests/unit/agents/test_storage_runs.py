"""Runs, approvals, signals and tasks: what is decided once stays decided."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from perdure.agents.errors import ConflictError, GoneError, RunNotFoundError
from perdure.agents.storage import AgentStorage, Approval, Task
from perdure.agents.storage.shapes import approval_row
from perdure.engine.agents.approvals import ApprovalDecision, decided_event
from tests.support.agent_storage import Hands, a_run, storing

YES = ApprovalDecision(True, by="ann")
NO = ApprovalDecision(False, reason="too dear")


def question(call: str = "c1", run_id: str = "r", expires_at: int | None = None) -> Approval:
    return Approval(run_id, call, "ops", "1", "pay", {"sum": 5}, "hash-5", thread_id="t", expires_at=expires_at)


async def test_the_same_run_id_with_the_same_input_is_the_same_run() -> None:
    async with storing() as storage:
        first, fresh = await storage.put_run(a_run())
        assert fresh
        again, fresh = await storage.put_run(a_run())
        assert (again, fresh) == (first, False)
        with pytest.raises(ConflictError, match="'r' was used before") as caught:
            await storage.put_run(a_run(input_hash="other"))
        assert caught.value.status == 409
        with pytest.raises(ConflictError):
            await storage.put_run(a_run(agent="another"))


async def test_of_two_starts_at_once_one_is_new(tmp_path: Path) -> None:
    async with storing(tmp_path / "db") as storage:
        puts = await asyncio.gather(*(storage.put_run(a_run()) for _ in range(8)))
        assert sorted(fresh for _, fresh in puts) == [False] * 7 + [True]


async def test_a_run_is_found_by_its_run_of_the_engine() -> None:
    async with storing() as storage:
        await storage.put_run(a_run())
        await storage.bind_run("r", "E1")
        bound = await storage.bind_run("r", "E2")
        assert bound.engine_run_id == "E1"
        assert (await storage.run_of_engine("E1")) == bound
        assert await storage.run_of_engine("E2") is None
        with pytest.raises(RunNotFoundError):
            await storage.bind_run("nobody", "E3")


async def test_child_runs_stand_under_their_parent_and_go_with_it() -> None:
    async with storing() as storage:
        await storage.put_run(a_run())
        assert await storage.child_runs("r") == []
        for child, parent in (("r.a", "r"), ("r.a.x", "r.a"), ("r.b", "r")):
            row = msgspec.structs.replace(
                a_run(child), parent_run_id=parent, engine_run_id=child, inbox_closed=True, detail={"toolCallId": "c"}
            )
            await storage.put_run(row)
        await storage.bind_run("r", "E1")
        found = await storage.run_of_engine("E1")
        assert found is not None and found.run_id == "r"
        assert [child.run_id for child in await storage.child_runs("r")] == ["r.a", "r.b"]
        # Background tasks stand below their runs, too, but are no sub-agents.
        await storage.put_run(msgspec.structs.replace(a_run("task-r-c"), parent_run_id="r", inbox_closed=True))
        assert [child.run_id for child in await storage.child_runs("r")] == ["r.a", "r.b"]
        assert [child.run_id for child in await storage.child_runs("r.a")] == ["r.a.x"]
        assert [run.run_id for run in await storage.unfinished_runs("t")] == ["r"]
        assert await storage.delete_run("r")
        assert [await storage.run(run_id) for run_id in ("r", "r.a", "r.a.x", "r.b", "task-r-c")] == [None] * 5


async def test_a_run_that_is_over_stays_over() -> None:
    clock = Hands()
    async with storing(clock=clock) as storage:
        await storage.put_run(a_run())
        await storage.set_run_status("r", "suspended")
        clock.at = 5_000
        over = await storage.set_run_status("r", "finished", finish_reason="stop", keep_for=100)
        assert (over.ended_at, over.expires_at, over.finish_reason) == (5_000, 5_100, "stop")
        assert (await storage.set_run_status("r", "running")).status == "finished"


async def test_runs_are_listed_by_what_is_known_of_them() -> None:
    clock = Hands()
    async with storing(clock=clock) as storage:
        for index, thread in enumerate(("t", "t", "t2", None)):
            clock.at = 1_000 + index
            await storage.put_run(a_run(f"r{index}", thread=thread))
        await storage.set_run_status("r1", "suspended")
        await storage.set_run_status("r0", "finished")
        page = await storage.runs(per_page=3)
        assert ([each.run_id for each in page.items], page.total, page.has_more) == (["r3", "r2", "r1"], 4, True)
        assert [each.run_id for each in (await storage.runs(statuses=["suspended"])).items] == ["r1"]
        assert [each.run_id for each in (await storage.runs(thread_id="t2", resource_id="u")).items] == ["r2"]
        assert (await storage.runs(agent_id="another")).total == 0
        assert [each.run_id for each in (await storage.runs(from_=1_001, to=1_002)).items] == ["r2", "r1"]


async def test_a_question_is_decided_once() -> None:
    async with storing() as storage:
        await storage.put_run(a_run())
        await storage.put_approval(question())
        decided = await storage.decide_approval("r", "c1", YES)
        assert (decided.status, decided.decided_by, decided.decided_at) == ("approved", "ann", 1_000)
        for decision in (YES, NO):
            with pytest.raises(ConflictError, match="'c1' of run 'r' is approved already") as caught:
                await storage.decide_approval("r", "c1", decision)
            assert caught.value.status == 409


async def test_of_many_decisions_at_once_one_counts(tmp_path: Path) -> None:
    async with storing(tmp_path / "db") as storage:
        await storage.put_run(a_run())
        await storage.put_approval(question())
        results = await asyncio.gather(
            *(storage.decide_approval("r", "c1", (YES, NO)[n % 2]) for n in range(10)), return_exceptions=True
        )
        assert sum(isinstance(each, Approval) for each in results) == 1
        assert sum(isinstance(each, ConflictError) for each in results) == 9


async def test_a_question_that_is_asked_again_keeps_its_decision() -> None:
    async with storing() as storage:
        await storage.put_run(a_run())
        await storage.put_approval(question())
        await storage.decide_approval("r", "c1", NO)
        again = await storage.put_approval(question())
        assert (again.status, again.reason) == ("declined", "too dear")


async def test_a_decision_on_other_arguments_is_refused() -> None:
    async with storing() as storage:
        await storage.put_run(a_run())
        await storage.put_approval(question())
        with pytest.raises(ConflictError, match="other arguments"):
            await storage.decide_approval("r", "c1", ApprovalDecision(True, args_hash="hash-6"))
        taken = await storage.decide_approval("r", "c1", ApprovalDecision(True, args_hash="hash-5", args={"sum": 4}))
        assert (taken.args, taken.new_args) == ({"sum": 5}, {"sum": 4})


async def test_nobody_decides_what_is_too_late_or_unknown() -> None:
    clock = Hands()
    async with storing(clock=clock) as storage:
        await storage.put_run(a_run())
        await storage.put_approval(question("late", expires_at=2_000))
        await storage.put_approval(question("open"))
        clock.at = 2_000
        for _ in range(2):
            with pytest.raises(GoneError, match="its time is up"):
                await storage.decide_approval("r", "late", YES)
        await storage.set_run_status("r", "finished")
        with pytest.raises(GoneError, match="the run is over") as caught:
            await storage.decide_approval("r", "open", YES)
        assert caught.value.status == 410
        for call in (("r", "nothing"), ("nobody", "c1")):
            with pytest.raises(RunNotFoundError, match="asks nothing"):
                await storage.decide_approval(*call, YES)


async def test_a_decided_question_of_a_run_that_is_over_is_gone() -> None:
    async with storing() as storage:
        await storage.put_run(a_run())
        await storage.put_approval(question())
        await storage.decide_approval("r", "c1", NO)
        await storage.set_run_status("r", "finished")
        with pytest.raises(GoneError, match="the run is over"):
            await storage.decide_approval("r", "c1", YES)
        found = await storage.approval("r", "c1")
        assert found is not None and found.status == "declined"


async def test_a_question_expires_unless_somebody_was_faster() -> None:
    async with storing() as storage:
        await storage.put_run(a_run())
        await storage.put_approval(question("slow"))
        await storage.put_approval(question("fast"))
        assert await storage.expire_approval("r", "slow")
        assert await storage.expire_approval("r", "slow")
        await storage.decide_approval("r", "fast", YES)
        assert not await storage.expire_approval("r", "fast")


async def test_questions_are_listed_and_closed_with_their_run() -> None:
    async with storing() as storage:
        await storage.put_run(a_run())
        await storage.put_run(a_run("r2"))
        for call in ("c1", "c2"):
            await storage.put_approval(question(call))
        await storage.put_approval(question("c3", "r2"))
        assert (await storage.approvals(run_ids=["r"], statuses=["pending"])).total == 2
        assert (await storage.approvals(agent_id="ops", thread_id="t", per_page=1)).has_more
        assert await storage.close_approvals("r") == 2
        assert [each.tool_call_id for each in (await storage.approvals(statuses=["pending"])).items] == ["c3"]


def test_the_event_of_a_decision_says_what_was_decided() -> None:
    row = approval_row(
        Approval("r", "c1", "ops", "1", "pay", {}, "h", status="declined", reason="no", decided_by="ann")
    )
    assert decided_event(row) == {
        "name": "perdure/approval.decided",
        "id": "perdure/approval.decided:r:c1",
        "data": {
            "runId": "r",
            "toolCallId": "c1",
            "approved": False,
            "reason": "no",
            "data": None,
            "args": None,
            "by": "ann",
        },
    }


async def test_a_step_claims_the_same_signals_in_each_attempt() -> None:
    async with storing() as storage:
        await storage.put_run(a_run())
        assert await storage.put_signal("r", "s1", {"id": "s1"})
        assert await storage.put_signal("r", "s1", {"id": "s1"}), "said twice"
        assert await storage.put_signal("r", "s2", {"id": "s2"})
        assert await storage.claim_signals("r", "llm:1") == [{"id": "s1"}, {"id": "s2"}]
        await storage.put_signal("r", "s3", {"id": "s3"})
        assert await storage.claim_signals("r", "llm:1") == [{"id": "s1"}, {"id": "s2"}, {"id": "s3"}]
        assert await storage.claim_signals("r", "llm:2") == []


async def test_a_closed_inbox_takes_nothing_until_the_run_goes_on() -> None:
    async with storing() as storage:
        await storage.put_run(a_run())
        await storage.put_signal("r", "s1", {"id": "s1"})
        assert await storage.close_inbox("r", "llm:0") == [{"id": "s1"}], "there was something: it stays open"
        assert await storage.put_signal("r", "s2", {"id": "s2"})
        assert await storage.close_inbox("r", "llm:1") == [{"id": "s2"}]
        assert await storage.close_inbox("r", "llm:2") == []
        assert await storage.close_inbox("r", "llm:2") == []
        assert not await storage.put_signal("r", "s3", {"id": "s3"})
        assert await storage.active_run("t", "u") is None
        assert await storage.claim_signals("r", "llm:3") == [], "the run goes on"
        assert await storage.put_signal("r", "s3", {"id": "s3"})


async def test_asking_an_empty_inbox_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with storing() as storage:
        await storage.put_run(a_run())
        with monkeypatch.context() as patch:
            patch.setattr(storage.store, "submit", None)
            assert await storage.claim_signals("r", "llm:0") == []
        await storage.close_inbox("r", "llm:0")
        await storage.claim_signals("r", "llm:1")
        assert await storage.put_signal("r", "s1", {"id": "s1"}), "claiming has opened it again"


async def test_no_signal_is_lost_between_senders_and_the_close(tmp_path: Path) -> None:
    async with storing(tmp_path / "db") as storage:
        await storage.put_run(a_run())

        async def closing() -> list[str]:
            taken: list[str] = []
            for step in range(1000):
                got = await storage.close_inbox("r", f"llm:{step}")
                if not got:
                    break
                taken += [each["id"] for each in got]
            return taken

        await storage.put_signal("r", "first", {"id": "first"})
        sent = [f"s{n}" for n in range(40)]
        taken, accepted = await asyncio.gather(
            closing(), asyncio.gather(*(storage.put_signal("r", id, {"id": id}) for id in sent))
        )
        assert sorted(taken) == sorted(["first", *(id for id, ok in zip(sent, accepted, strict=True) if ok)])


async def test_the_run_that_has_the_thread_gets_its_signals() -> None:
    clock = Hands()
    async with storing(clock=clock) as storage:
        assert await storage.active_run("t") is None
        for run_id in ("waits", "runs", "queued"):
            clock.at += 1
            await storage.put_run(a_run(run_id))
        await storage.set_run_status("waits", "suspended")
        active = await storage.active_run("t", "u")
        assert active is not None and active.run_id == "runs"
        assert await storage.active_run("t", "somebody else") is None
        for run_id in ("runs", "queued"):
            await storage.set_run_status(run_id, "finished")
        active = await storage.active_run("t", "u")
        assert active is not None and active.run_id == "waits"
        assert not await storage.put_signal("runs", "s", {}), "it is over"
        assert not await storage.put_signal("nobody", "s", {})
        assert await storage.put_signal("waits", "s", {"id": "s"})


async def test_persisted_signals_are_found_by_those_who_follow_the_thread() -> None:
    async with storing() as storage:
        before = await storage.last_signal()
        await storage.note_persisted("t", "s1", {"id": "s1"})
        await storage.note_persisted("t", "s1", {"id": "s1"})
        await storage.note_persisted("t2", "s2", {"id": "s2"})
        await storage.note_persisted("t", "s3", {"id": "s3"})
        found = await storage.persisted_since("t", before)
        assert [each.signal["id"] for each in found] == ["s1", "s3"]
        assert await storage.persisted_since("t", found[-1].seq) == []


async def test_a_step_knows_how_often_it_began() -> None:
    async with storing() as storage:
        assert [await storage.begin_step("r", "tool:c1") for _ in range(3)] == [0, 1, 2]
        assert await storage.begin_step("r", "tool:c2") == 0


def task(id: str, **given: str) -> Task:
    fields = {"run_id": "r", "agent_id": "ops", "tool_name": "research", "tool_call_id": f"call-{id}"} | given
    return Task(id=id, args={"q": id}, **fields)  # type: ignore[arg-type]


async def test_a_task_goes_its_way_and_stays_settled() -> None:
    clock = Hands()
    async with storing(clock=clock) as storage:
        made = await storage.put_task(task("k"))
        assert (made.status, made.created_at) == ("pending", 1_000)
        clock.at = 2_000
        await storage.set_task("k", "running")
        clock.at = 3_000
        await storage.set_task("k", "running", retry_count=1)
        done = await storage.set_task("k", "completed", result={"found": 3})
        assert (done.started_at, done.completed_at, done.retry_count, done.result) == (2_000, 3_000, 1, {"found": 3})
        assert await storage.set_task("k", "failed", error={"message": "late"}) == done
        assert await storage.put_task(task("k")) == done
        with pytest.raises(RunNotFoundError, match="no background task 'x'"):
            await storage.set_task("x", "running")
        assert await storage.delete_task("k")
        assert await storage.task("k") is None


async def test_tasks_are_listed_by_what_is_known_of_them() -> None:
    clock = Hands()
    async with storing(clock=clock) as storage:
        for n in range(4):
            clock.at = 1_000 + n
            await storage.put_task(task(f"k{n}", run_id=f"r{n % 2}", tool_name=("a", "b")[n // 2]))
        await storage.set_task("k3", "running")
        assert [each.id for each in (await storage.tasks(run_id="r0")).items] == ["k0", "k2"]
        assert [each.id for each in (await storage.tasks(tool_name="b", descending=True)).items] == ["k3", "k2"]
        assert [each.id for each in (await storage.tasks(statuses=["running"])).items] == ["k3"]
        page = await storage.tasks(agent_id="ops", per_page=3)
        assert (page.total, page.has_more) == (4, True)


async def test_a_deleted_run_takes_along_what_is_its_own() -> None:
    async with storing() as storage:
        await storage.put_run(a_run())
        await storage.put_approval(question())
        await storage.put_signal("r", "s", {"id": "s"})
        await storage.put_task(task("k"))
        assert await storage.delete_run("r")
        assert not await storage.delete_run("r")
        assert await storage.approval("r", "c1") is None
        assert await storage.task("k") is None
        await storage.put_run(a_run())
        assert await storage.claim_signals("r", "llm:0") == []


async def test_who_watches_hears_of_changes_that_others_make() -> None:
    async with storing() as storage:
        another = AgentStorage(storage.store, now=storage.now, ids=storage.ids)
        with storage.watch("thread:t") as watch, storage.watch("run:r") as of_run:
            await another.put_run(a_run())
            assert await watch.changed(1)
            assert not await watch.changed(0)
            assert not await of_run.changed(0)
            await another.put_signal("r", "s", {})
            assert await of_run.changed(1)

"""Signals on their way: active and idle threads, followers, and senders in other processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from copy import copy

import pytest

from perdure.agents.chunks import Chunk, chunk
from perdure.agents.errors import AccessDeniedError, ConflictError, InvalidOptionError, RunNotFoundError
from perdure.agents.signals import Signals, Subscription
from perdure.agents.storage import AgentRun, AgentStorage
from perdure.model.json import Json
from tests.support.agent_storage import a_run, storing

ALERT: Json = {"id": "s1", "type": "alert", "contents": "fire"}
HERE: Json = {"thread_id": "t", "resource_id": "u"}


class FakeRuns:
    """Runs that say what the test lets them say."""

    def __init__(self, storage: AgentStorage) -> None:
        self.storage = storage
        self.logs: dict[str, list[Chunk]] = {}
        self.started: list[dict[str, Json]] = []
        self.aborted: list[str] = []
        self.more = asyncio.Condition()

    async def start(
        self,
        agent_id: str,
        signals: list[dict[str, Json]],
        *,
        run_id: str,
        thread_id: str,
        resource_id: str,
        options: dict[str, Json],
    ) -> None:
        self.started.append({"run": run_id, "signals": [each["id"] for each in signals], "options": options})
        await self.begin(AgentRun(run_id, agent_id, "1", "h", thread_id, resource_id))

    async def begin(self, run: AgentRun) -> None:
        self.logs.setdefault(run.run_id, [])
        await self.storage.put_run(run)
        await self.storage.bind_run(run.run_id, f"engine-{run.run_id}")
        await self.say(run.run_id, "start")

    async def say(self, run_id: str, type_: str) -> None:
        async with self.more:
            self.logs[run_id].append(chunk(type_, run_id))
            self.more.notify_all()

    async def finish(self, run_id: str) -> None:
        await self.storage.set_run_status(run_id, "finished")
        await self.say(run_id, "finish")

    async def follow(self, run_id: str, offset: int = 0) -> AsyncIterator[Chunk]:
        log = self.logs[run_id]
        while True:
            while offset < len(log):
                yield log[offset]
                offset += 1
                if log[offset - 1].type == "finish":
                    return
            async with self.more:
                await self.more.wait_for(lambda at=offset: at < len(log))  # type: ignore[misc]

    async def abort(self, run_id: str, reason: str | None = None) -> bool:
        self.aborted.append(run_id)
        return (await self.storage.set_run_status(run_id, "aborted")).status == "aborted"


@asynccontextmanager
async def sending() -> AsyncGenerator[tuple[Signals, FakeRuns, AgentStorage]]:
    async with storing() as storage:
        runs = FakeRuns(storage)
        yield Signals(storage, runs), runs, storage


async def heard(subscription: Subscription, count: int) -> list[tuple[str, str | None]]:
    """The next chunks, by kind and run."""
    async with asyncio.timeout(5):
        return [(said.type, said.run_id) for said in [await anext(subscription) for _ in range(count)]]


async def test_a_signal_wakes_an_idle_thread() -> None:
    async with sending() as (signals, runs, _):
        idle = {"behavior": "wake", "streamOptions": {"maxSteps": 2}, "attributes": {"woke": True}}
        accepted = await signals.send_signal("ops", ALERT, **HERE, if_idle=idle)
        assert accepted.run_id == "signal-s1"
        assert runs.started == [{"run": "signal-s1", "signals": ["s1"], "options": {"untilIdle": True, "maxSteps": 2}}]
        answer = accepted.to_json()
        assert (answer["accepted"], answer["runId"]) == (True, "signal-s1")
        assert answer["signal"]["attributes"] == {"woke": True}
        assert answer["signal"]["__isCreatedSignal"] is True


async def test_a_signal_sent_again_wakes_nobody_again() -> None:
    async with sending() as (signals, runs, storage):
        first = await signals.send_signal("ops", ALERT, **HERE)
        await runs.finish(first.run_id)
        again = await signals.send_signal("ops", ALERT, **HERE)
        assert (again.run_id, len(runs.started)) == (first.run_id, 1)
        await storage.create_thread("u", id="t")
        await signals.send_signal("ops", {**ALERT, "id": "s2"}, **HERE, if_idle={"behavior": "persist"})
        await signals.send_signal("ops", {**ALERT, "id": "s2"}, **HERE)
        assert len(runs.started) == 1
        for target in ({"thread_id": "t2", "resource_id": "u"}, {"thread_id": "t2", "resource_id": "bob"}):
            for id in ("s1", "s2"):
                with pytest.raises(ConflictError, match="taken in another thread"):
                    await signals.send_signal("ops", {**ALERT, "id": id}, **target)


async def test_a_signal_is_delivered_to_the_active_run() -> None:
    async with sending() as (signals, runs, storage):
        await runs.begin(a_run("r"))
        accepted = await signals.send_signal("ops", ALERT, **HERE, if_active={"attributes": {"late": True}})
        assert accepted.run_id == "r"
        (claimed,) = await storage.claim_signals("r", "llm:1")
        assert (claimed["id"], claimed["attributes"]) == ("s1", {"late": True})
        await storage.set_run_status("r", "suspended")
        assert (await signals.send_message("ops", "still there?", **HERE)).run_id == "r", "it waits for the run"


async def test_a_run_that_is_ending_takes_no_signal_and_another_begins() -> None:
    async with sending() as (signals, runs, storage):
        await runs.begin(a_run("r"))
        assert await storage.close_inbox("r", "llm:0") == []
        accepted = await signals.send_signal("ops", ALERT, **HERE)
        assert accepted.run_id == "signal-s1"


async def test_what_a_run_did_not_take_in_begins_another() -> None:
    async with sending() as (signals, runs, storage):
        await runs.begin(a_run("r"))
        for id in ("s1", "s2"):
            await signals.send_signal("ops", {**ALERT, "id": id}, **HERE)
        assert await signals.pass_on("r") is None, "it may still take them in"
        await runs.finish("r")
        assert await storage.runs_with_left_signals() == ["r"]
        assert await signals.pass_on("r") == "signal-s1"
        assert runs.started == [{"run": "signal-s1", "signals": ["s1", "s2"], "options": {"untilIdle": True}}]
        assert await storage.runs_with_left_signals() == []
        await signals.pass_on_all()
        assert await signals.pass_on("r") is None
        assert len(runs.started) == 1


async def test_what_is_passed_on_again_after_a_crash_begins_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sending() as (signals, runs, storage):
        await runs.begin(a_run("r"))
        await signals.send_signal("ops", ALERT, **HERE)
        await runs.finish("r")

        async def crash(*args: Json) -> Json:
            raise RuntimeError("the process dies here")

        with monkeypatch.context() as patch:
            patch.setattr(storage, "claim_signals", crash)
            with pytest.raises(RuntimeError):
                await signals.pass_on("r")
        await signals.pass_on_all()
        assert [each["run"] for each in runs.started] == ["signal-s1"]
        assert await storage.runs_with_left_signals() == []


async def test_what_an_aborted_run_did_not_take_in_is_kept() -> None:
    async with sending() as (signals, runs, storage):
        await runs.begin(a_run("r"))
        await signals.send_signal("ops", ALERT, **HERE)
        await signals.abort_thread("t", "u")
        await signals.pass_on_all()
        assert runs.started == []
        assert [each.id for each in (await storage.messages("t")).items] == ["s1"]


@pytest.mark.parametrize("active", [True, False])
@pytest.mark.parametrize("behavior", ["persist", "discard"])
async def test_a_signal_is_persisted_or_discarded(active: bool, behavior: str) -> None:
    async with sending() as (signals, runs, storage):
        if active:
            await runs.begin(a_run("r"))
        choice: Json = {"if_active" if active else "if_idle": {"behavior": behavior}}
        accepted = await signals.send_signal("ops", ALERT, **HERE, **choice)
        assert (accepted.run_id, runs.started) == ("s1", [])
        kept = (await storage.messages("t")).items
        assert [(each.id, each.role, each.type, each.text) for each in kept] == (
            [("s1", "signal", "alert", "fire")] if behavior == "persist" else []
        )
        if active:
            assert await storage.claim_signals("r", "llm:0") == []


async def test_a_signal_to_a_run_reaches_that_run_alone() -> None:
    async with sending() as (signals, runs, storage):
        await runs.begin(a_run("r", thread=None))
        assert (await signals.send_signal("ops", ALERT, run_id="r")).run_id == "r"
        await runs.finish("r")
        for run_id, agent in (("r", "ops"), ("nobody", "ops"), ("other", "another")):
            await storage.put_run(a_run("other"))
            with pytest.raises(RunNotFoundError, match="No active agent run found for signal target"):
                await signals.send_signal(agent, ALERT, run_id=run_id)


async def test_foreign_threads_and_wrong_requests_are_refused() -> None:
    async with sending() as (signals, runs, storage):
        await storage.create_thread("ann", id="t")
        with pytest.raises(AccessDeniedError):
            await signals.send_signal("ops", ALERT, **HERE)
        with pytest.raises(AccessDeniedError):
            await signals.queue_message("ops", "hi", **HERE)
        with pytest.raises(AccessDeniedError):
            await signals.abort_thread("t", "u")
        with pytest.raises(InvalidOptionError, match="signal target: give runId"):
            await signals.send_signal("ops", ALERT, thread_id="t")
        wrong: list[tuple[Json, str]] = [
            ({"if_active": {"behavior": "wake"}}, "ifActive.behavior: must be one of deliver, persist, discard"),
            ({"if_idle": {"behavior": "deliver"}}, "ifIdle.behavior: must be one of wake, persist, discard"),
            ({"if_idle": {"streamOptions": 5}}, "ifIdle.streamOptions: must be an object"),
            ({"if_idle": 5}, "ifIdle: must be an object"),
        ]
        for given, text in wrong:
            with pytest.raises(InvalidOptionError, match=text):
                await signals.send_signal("ops", ALERT, thread_id="t", resource_id="ann", **given)
        assert runs.started == []


async def test_a_queued_message_gets_a_run_of_its_own() -> None:
    async with sending() as (signals, runs, storage):
        await runs.begin(a_run("r"))
        accepted = await signals.queue_message("ops", {"contents": "next"}, **HERE)
        assert accepted.run_id.startswith("signal-")
        assert [each["run"] for each in runs.started] == [accepted.run_id]
        assert await storage.claim_signals("r", "llm:0") == []


async def test_the_active_run_of_a_thread_is_aborted() -> None:
    async with sending() as (signals, runs, storage):
        assert not await signals.abort_thread("t", "u")
        for run_id in ("waits", "runs"):
            await runs.begin(a_run(run_id))
        await storage.set_run_status("waits", "suspended")
        assert not await signals.abort_thread("t", "u", expected_run_id="another")
        assert await signals.abort_thread("t", "u")
        assert await signals.abort_thread("t", "u", expected_run_id="waits")
        assert runs.aborted == ["runs", "waits"]


async def test_a_late_follower_hears_the_active_run_from_its_start() -> None:
    async with sending() as (signals, runs, _):
        await runs.begin(a_run("over"))
        await runs.finish("over")
        runs.storage.now.at += 1  # type: ignore[attr-defined]
        await runs.begin(a_run("r"))
        await runs.say("r", "text-start")
        async with signals.subscribe("t", "u") as early, signals.subscribe("t", "u") as late:
            assert await heard(early, 2) == [("start", "r"), ("text-start", "r")]
            await runs.say("r", "text-delta")
            assert await heard(early, 1) == [("text-delta", "r")]
            assert await heard(late, 3) == [("start", "r"), ("text-start", "r"), ("text-delta", "r")]
            await runs.finish("r")
            await runs.begin(a_run("next"))
            for each in (early, late):
                assert await heard(each, 2) == [("finish", "r"), ("start", "next")]


async def test_followers_hear_their_thread_alone() -> None:
    async with sending() as (signals, runs, _), signals.subscribe("t", "u") as mine:
        await runs.begin(a_run("other", thread="t2"))
        await runs.begin(AgentRun("child", "sub", "1", "h", "t", "u", parent_run_id="r"))
        await runs.begin(a_run("r"))
        assert await heard(mine, 1) == [("start", "r")]


async def test_followers_are_told_of_persisted_signals() -> None:
    async with sending() as (signals, _, _storage):
        await signals.send_message("ops", "before", **HERE, if_idle={"behavior": "persist"})
        async with signals.subscribe("t", "u") as mine:
            accepted = await signals.send_message("ops", "note", **HERE, if_idle={"behavior": "persist"})
            start, told, finish = [await anext(mine) for _ in range(3)]
        assert start["payload"] == {"id": "ops", "messageId": f"persisted-signal:{accepted.signal.id}"}
        assert (told["type"], told["data"]["contents"]) == ("data-user-message", "note")
        assert finish.payload["stepResult"] == {"reason": "stop"}
        assert finish.payload["output"]["usage"]["totalTokens"] == 0


async def test_followers_of_another_resource_hear_no_persisted_signals() -> None:
    # There is no such thread when they come, so nobody can refuse them.
    async with sending() as (signals, runs, _), signals.subscribe("t", "stranger") as stranger:
        await signals.send_message("ops", "secret", **HERE, if_idle={"behavior": "persist"})
        await runs.begin(AgentRun("theirs", "ops", "1", "h", "t", "stranger"))
        assert await heard(stranger, 1) == [("start", "theirs")]


async def test_followers_hear_what_begins_in_another_process() -> None:
    async with sending() as (signals, runs, storage):
        # Another object for the same data: what changes by it wakes nobody here.
        elsewhere = AgentStorage(copy(storage.store), now=storage.now, ids=storage.ids)
        async with signals.subscribe("t", "u") as mine:
            runs.storage = elsewhere
            accepted = await Signals(elsewhere, runs).send_message("ops", "hi", **HERE)
            assert await heard(mine, 1) == [("start", accepted.run_id)]


async def test_closing_a_subscription_ends_nothing_else() -> None:
    async with sending() as (signals, runs, _):
        await runs.begin(a_run("r"))
        first, second = signals.subscribe("t", "u"), signals.subscribe("t", "u")
        assert await heard(first, 1) == [("start", "r")]
        await first.close()
        with pytest.raises(StopAsyncIteration):
            await anext(first)
        await runs.say("r", "text-start")
        assert await heard(second, 2) == [("start", "r"), ("text-start", "r")]
        await second.close()
        assert runs.aborted == []


async def test_a_follower_hears_of_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sending() as (signals, runs, storage), signals.subscribe("t", "u") as mine:

        async def broken(*args: Json) -> list[AgentRun]:
            raise RuntimeError("the disk is gone")

        monkeypatch.setattr(storage, "unfinished_runs", broken)
        await runs.begin(a_run("r"))
        with pytest.raises(RuntimeError, match="the disk is gone"):
            async with asyncio.timeout(5):
                await anext(mine)


async def test_many_runs_at_once_are_all_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    from perdure.agents.signals import following

    monkeypatch.setattr(following, "_RUNS_AT_ONCE", 3)
    async with sending() as (signals, runs, storage), signals.subscribe("t", "u") as mine:
        for n in range(10):
            storage.now.at += 1  # type: ignore[attr-defined]
            await runs.begin(a_run(f"r{n}"))
            await runs.finish(f"r{n}")
        assert {run for _, run in await heard(mine, 20)} == {f"r{n}" for n in range(10)}

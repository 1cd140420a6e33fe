"""The streams of runs in this process: what is heard at once, later, after cancelling, and by those who are slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from perdure import App, Context, NotFoundError, RunCancelledError, RunFailedError, step, stream
from perdure.engine import retention, streams
from perdure.engine.streams import GAP
from perdure.model.ids import step_hash
from perdure.model.streams import Entry, StreamEvent, StreamTooLargeError
from perdure.node import Node
from perdure.runner import streams as runner_streams
from perdure.runner import tail
from perdure.runner.handle import RunHandle
from perdure.runner.streams import Reader
from perdure.testing import VirtualClock
from tests.unit.engine.harness import ask, crashed, running, step_named, turns, until


async def all_of(run: RunHandle[object], offset: int = 0) -> list[StreamEvent]:
    return [event async for event in run.stream(offset)]


def shown(events: list[StreamEvent]) -> list[object]:
    return [event.data if event.kind == "data" else event.kind for event in events]


async def some(reader: Reader, count: int) -> list[StreamEvent]:
    heard: list[StreamEvent] = []
    while len(heard) < count:
        events = await reader.next()
        assert events, f"it ended after {heard}"
        heard += events
    return heard


class Talk:
    """A function whose one step says what the test gives it, until the test lets it end."""

    def __init__(self, retries: int = 0) -> None:
        self.app = App("t")
        self.words: asyncio.Queue[object] = asyncio.Queue()

        async def say() -> str:
            while (word := await self.words.get()) is not None:
                if isinstance(word, Exception):
                    raise word
                stream.push(word)
            return "said"

        @self.app.function("talk", trigger="talk", retries=retries)
        async def talk(ctx: Context) -> str:
            return await step.run("say", say)

    def say(self, *words: object) -> None:
        for word in words:
            self.words.put_nowait(word)


async def test_it_is_heard_as_it_is_said_and_later_too() -> None:
    talk = Talk()
    async with running(talk.app) as node:
        run = await node.trigger("t-talk")
        with node.streams.following(run.run_id) as reader:
            for number in range(3):
                talk.say(number)
                (heard,) = await reader.next()
                assert (heard.offset, heard.data) == (number + 1, number)
            talk.say(None)
            assert shown(await some(reader, 2)) == ["commit", "response"]
            assert await reader.next() == []
        assert shown(await all_of(run)) == [0, 1, 2, "commit", "response"]
        assert shown(await all_of(node.run(run.run_id), 2)) == [2, "commit", "response"]
        assert shown(await all_of(run, 4)) == ["response"]
        assert await all_of(run, 5) == []
        assert node.streams._tails == {}


async def test_what_is_taken_back_is_heard_live_and_left_out_later() -> None:
    talk = Talk(retries=1)
    async with running(talk.app) as node:
        run = await node.trigger("t-talk")
        with node.streams.following(run.run_id) as reader:
            talk.say(1, 2, ValueError("in mid stream"))
            assert shown(await some(reader, 3)) == [1, 2, "rollback"]
            talk.say(3, None)
            await node.drain()
            assert shown(await some(reader, 3)) == [3, "commit", "response"]
        assert shown(await all_of(run)) == [3, "commit", "response"]
        # Who has heard some of it learns that it is taken back.
        assert shown(await all_of(run, 1)) == ["rollback", 3, "commit", "response"]


async def test_a_failed_run_has_its_error_as_the_response() -> None:
    talk = Talk()
    async with running(talk.app) as node:
        run = await node.trigger("t-talk")
        with node.streams.following(run.run_id) as reader:
            # Who comes after the rollback does not hear what was taken back.
            await reader.begin()
            talk.say("x", ValueError("no luck"))
            heard = await some(reader, 3)
        assert shown(heard) == ["x", "rollback", "response"]
        assert heard[-1].data["status"] == "failed" and heard[-1].data["response"]["body"] == '"no luck"'
        with pytest.raises(RunFailedError):
            await run.result()


async def test_cancelling_takes_back_what_was_under_way_and_ends_the_stream() -> None:
    talk = Talk()
    async with running(talk.app) as node:
        run = await node.trigger("t-talk")
        with node.streams.following(run.run_id) as reader:
            talk.say("x")
            await reader.next()
            await run.cancel()
            heard = await some(reader, 2)
        assert shown(heard) == ["rollback", "response"]
        assert heard[-1].data["response"]["statusCode"] == 410
        # Whoever asks gets the same, under the same offsets.
        assert await all_of(run, 1) == heard
        with pytest.raises(RunCancelledError):
            await run.result()


async def test_a_run_without_a_stream_has_a_response_and_costs_no_rows() -> None:
    app = App("t")

    @app.function("mute", trigger="go")
    async def mute(ctx: Context) -> int:
        await step.sleep("a while", "1h")
        return 7

    async with running(app) as node:
        run = await node.trigger("t-mute")
        following = asyncio.create_task(all_of(run))
        await turns()
        assert not following.done()
        await node.drain()
        (response,) = await following
        assert (response.offset, response.data["response"]["body"]) == (1, "7")
        assert await ask(node, "stream_by_run", run.run_id) == []
        with pytest.raises(NotFoundError):
            await all_of(node.run("01M812G5DBRMY8JK6C1F20EN4A"))


async def test_what_is_said_outside_of_steps_is_not_said_again_by_a_replay(tmp_path: Path) -> None:
    app = App("t")

    @app.function("talk", trigger="go")
    async def talk(ctx: Context) -> None:
        stream.push("begin")
        await step.run("a", lambda: 1)
        await step.sleep("a while", "1d")
        stream.push("end")

    async with running(app, VirtualClock(), tmp_path / "db") as node:
        run = await node.trigger("t-talk")
        await node.drain()
        assert shown(await all_of(run)) == ["begin", "end", "response"]


async def test_a_process_that_died_in_mid_step_is_taken_back_by_the_next(tmp_path: Path) -> None:
    talk = Talk()
    async with running(talk.app, VirtualClock(), tmp_path / "db", shutdown_timeout=0) as node:
        run = await node.trigger("t-talk")
        with node.streams.following(run.run_id) as reader:
            talk.say("lost")
            (first,) = await reader.next()
        db = crashed(tmp_path / "db")
    talk = Talk()
    async with running(talk.app, VirtualClock(), db) as node:
        with node.streams.following(run.run_id) as late, node.streams.following(run.run_id, first.offset) as reader:
            talk.say("again", None)
            heard = await some(reader, 4)
            assert shown(heard) == ["rollback", "again", "commit", "response"]
            # Offsets of what may have been told and lost are not used again.
            assert heard[0].offset > GAP
            assert shown(await some(late, 3)) == ["again", "commit", "response"]


async def test_a_step_recorded_just_before_the_end_counts_when_the_run_goes_on(tmp_path: Path) -> None:
    app = App("t")

    async def say() -> int:
        stream.push("said")
        return 1

    @app.function("talk", trigger="go")
    async def talk(ctx: Context) -> None:
        await step.run("a", say)
        await step.wait_for_event("b", event="never", timeout="1d")

    async with running(app, VirtualClock(), tmp_path / "db") as node:
        run = await node.trigger("t-talk")
        await node.settle()
        step_id = (await step_named(node, run.run_id, "a")).id
        # As if it had died between the record and the commit.
        await node.decider.commit(lambda: streams.append(run.run_id, [Entry("data", step_id, b"1")], 999, anew=False))
        db = crashed(tmp_path / "db")
    clock = VirtualClock()
    async with running(app, clock, db) as node:
        with node.streams.following(run.run_id) as reader:
            await node.drain()
            assert shown(await some(reader, 5)) == ["said", "commit", 1, "commit", "response"]


async def test_more_than_is_allowed_is_refused_where_it_is_said() -> None:
    caught: list[Exception] = []
    app = App("t")

    async def say() -> str:
        stream.push("x" * 50)
        try:
            stream.push("x" * 60)
        except StreamTooLargeError as error:
            caught.append(error)
        return "done"

    @app.function("talk", trigger="go")
    async def talk(ctx: Context) -> str:
        return await step.run("say", say)

    async with running(app, max_stream_bytes=100) as node:
        run = await node.trigger("t-talk")
        assert await run.result() == "done"
        assert "more than 100 bytes" in str(caught[0]) and "max_stream_bytes" in str(caught[0])
        assert shown(await all_of(run)) == ["x" * 50, "commit", "response"]


async def test_who_is_slow_finds_in_the_store_what_has_left_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "_IN_MEMORY", 3_000)
    talk = Talk()
    async with running(talk.app) as node:
        run = await node.trigger("t-talk")
        with node.streams.following(run.run_id) as slow, node.streams.following(run.run_id) as quick:
            heard: list[StreamEvent] = []
            for number in range(300):
                talk.say(number)
                if number % 10 == 9:
                    heard += await some(quick, 10)
                    await node.streams._tails[run.run_id].settle()
            assert node.streams._tails[run.run_id].floor > 200
            assert len(node.streams._tails[run.run_id]._events) < 50
            talk.say(None)
            heard += await some(quick, 2)
            assert await some(slow, 302) == heard
            assert [event.offset for event in heard] == list(range(1, 303))


async def test_retention_takes_the_stream_along() -> None:
    talk = Talk()
    async with running(talk.app) as node:
        run = await node.trigger("t-talk")
        talk.say(1, None)
        await all_of(run)
        await node.decide(retention.delete_runs, [run.run_id])
        assert await ask(node, "stream_by_run", run.run_id) == await ask(node, "chunks_after", run.run_id, 0, 9) == []


async def test_nothing_is_added_once_the_run_is_over() -> None:
    talk = Talk()
    async with running(talk.app) as node:
        run = await node.trigger("t-talk")
        talk.say(1, None)
        heard = await all_of(run)
        with node.streams.teeing(run.run_id) as tee:
            tee.over.set()
            await tee.add(Entry("data", None, b"2"))
            await node.streams._tails[run.run_id].settle()
        assert await all_of(run) == heard
        answer = await node.decider.commit(partial(streams.append, "unknown", [Entry("commit")], 9, anew=True))
        assert answer == streams.REFUSED


async def test_what_an_app_says_too_early_counts_once_it_is_recorded() -> None:
    app, gates, begun = App("t"), [asyncio.Event(), asyncio.Event()], asyncio.Event()

    @app.function("talk", trigger="go")
    async def talk(ctx: Context) -> None:
        begun.set()
        await step.run("a", gates[0].wait)
        await step.run("b", gates[1].wait)

    a, b = step_hash("a"), step_hash("b")
    async with running(app) as node:
        run = await node.trigger("t-talk")
        await begun.wait()
        with node.streams.following(run.run_id) as reader:
            with node.streams.teeing(run.run_id, early=True) as tee:
                await tee.add(Entry("data", a, b"1"))
                await tee.add(Entry("commit", a))
            assert shown(await some(reader, 1)) == [1]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await some(reader, 1)
            gates[0].set()
            assert shown(await some(reader, 1)) == ["commit"]
            # The first attempt dies before its result is recorded.
            with node.streams.teeing(run.run_id, early=True) as tee:
                await tee.add(Entry("data", b, b"2"))
                await tee.add(Entry("commit", b))
            with node.streams.teeing(run.run_id, early=True) as tee:
                await tee.add(Entry("data", b, b"3"))
                await tee.add(Entry("commit", b))
                gates[1].set()
                assert shown(await some(reader, 5)) == [2, "rollback", 3, "commit", "response"]
        assert shown(await all_of(run)) == [1, "commit", 3, "commit", "response"]
    assert node.streams._tails == {}


@pytest.mark.parametrize("answers", [False, True])
async def test_all_who_listen_hear_the_same_of_a_step_that_counts_at_the_very_end(
    answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_streams, "_FIRST_LOOK", 0.3)
    app, gate, begun = App("t"), asyncio.Event(), asyncio.Event()

    @app.function("talk", trigger="go")
    async def talk(ctx: Context) -> None:
        begun.set()
        await step.run("a", gate.wait)

    async with running(app) as node:
        run = await node.trigger("t-talk")
        await begun.wait()
        with node.streams.following(run.run_id) as reader, node.streams.teeing(run.run_id, early=True) as tee:
            for entry in (Entry("data", step_hash("a"), b"1"), Entry("commit", step_hash("a"))):
                await tee.add(entry)
            gate.set()
            await run.result()
            if answers:
                await tee.add(Entry("response", None, RESPONSE))
            live = await some(reader, 3)
            assert shown(live)[:2] == [1, "commit"] and (live[2].body == RESPONSE) == answers
        assert await all_of(run) == live
        await asyncio.sleep(0.4)
        assert await all_of(run) == live


RESPONSE = b'{"status":"succeeded","response":{"statusCode":201,"headers":{},"body":"late"}}'


async def test_the_response_may_come_after_the_end_with_what_was_said_before_it() -> None:
    talk = Talk()
    async with running(talk.app) as node:
        run = await node.trigger("t-talk")
        with node.streams.teeing(run.run_id) as tee:
            talk.say(1, None)
            await run.result()
            for entry in (Entry("data", None, b"2"), Entry("commit", "x"), Entry("response", None, RESPONSE)):
                await tee.add(entry)
            await node.streams._tails[run.run_id].settle()
        heard = await all_of(run)
        assert shown(heard)[:2] == [1, "commit"] and heard[-1].body == RESPONSE
        assert 2 not in shown(heard)


async def test_what_was_under_way_at_the_end_is_kept_and_a_cancelled_run_takes_nothing() -> None:
    talk = Talk()
    async with running(talk.app) as node:
        run = await node.trigger("t-talk")
        talk.say(1, None)
        await run.result()
        batch = [Entry("data", None, b"2"), Entry("response", None, RESPONSE)]
        answer = await node.decider.commit(partial(streams.append, run.run_id, batch, 9999, anew=True))
        assert not isinstance(answer, str)
        assert (await all_of(run))[-1].body == RESPONSE
        again = await node.decider.commit(partial(streams.append, run.run_id, batch, 9999, anew=True))
        assert again == streams.REFUSED
        other = await node.trigger("t-talk")
        await node.cancel(other.run_id)
        assert await node.decider.commit(partial(streams.append, other.run_id, batch, 9999, anew=True)) == "refused"


async def test_events_that_say_nothing_count_too() -> None:
    talk = Talk()
    async with running(talk.app, max_stream_bytes=1000) as node:
        run = await node.trigger("t-talk")
        with node.streams.teeing(run.run_id) as tee:
            with pytest.raises(StreamTooLargeError, match="1000 bytes"):
                for _ in range(100):
                    await tee.add(Entry("data", "s"))
            for number in range(100):
                await tee.add(Entry("commit", f"s{number}"))
            # That of the step whose chunks were heard ends it, whatever there is room for.
            await tee.add(Entry("rollback", "s"))
            await node.streams._tails[run.run_id].settle()
        rows = await ask(node, "chunks_after", run.run_id, 0, 99)
        assert sum(count for _, count, _ in rows) == 16
        talk.say(None)
        await run.result()


async def test_readers_end_when_the_node_stops() -> None:
    talk = Talk()
    async with running(talk.app, shutdown_timeout=0) as node:
        run = await node.trigger("t-talk")
        following = asyncio.create_task(all_of(run))
        talk.say(1)
        await until(lambda: any(tail.open for tail in node.streams._tails.values()))
        node.hang_up()
        assert shown(await following) in ([1], [])


async def test_a_source_waits_while_much_is_not_kept_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "_FULL", 100)
    most = 0
    app = App("t")

    async def words(node: list[Node], run_id: str) -> AsyncIterator[str]:
        nonlocal most
        for _ in range(100):
            yield "x" * 20
            most = max(most, node[0].streams._tails[run_id]._unkept_bytes)

    nodes: list[Node] = []

    @app.function("talk", trigger="go")
    async def talk(ctx: Context) -> int:
        async def say() -> int:
            return len(await stream.pipe(words(nodes, ctx.run_id)))

        return await step.run("say", say)

    async with running(app) as node:
        nodes.append(node)
        assert await (await node.trigger("t-talk")).result() == 2000
        assert 0 < most < 200


async def test_a_source_of_many_small_chunks_waits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "_UNKEPT", 50)
    app = App("t")
    most = 0

    @app.function("talk", trigger="go")
    async def talk(ctx: Context) -> int:
        async def letters() -> AsyncIterator[str]:
            nonlocal most
            for _ in range(1000):
                yield "x"
                most = max(most, len(node.streams._tails[ctx.run_id]._unkept))

        return len(await step.run("say", lambda: stream.pipe(letters())))

    async with running(app) as node:
        assert await (await node.trigger("t-talk")).result() == 1000
        assert 50 < most <= 101


async def test_a_step_ends_while_another_one_goes_on_and_on() -> None:
    app = App("t")
    recorded = asyncio.Event()

    async def endless() -> None:
        while not recorded.is_set():
            stream.push("x" * 1000)
            await asyncio.sleep(0)

    async def short() -> None:
        stream.push("y")

    async def record() -> None:
        await step.run("short", short)
        recorded.set()

    @app.function("talk", trigger="go")
    async def talk(ctx: Context) -> None:
        await asyncio.gather(step.run("endless", endless), record())

    async with running(app) as node:
        run = await node.trigger("t-talk")
        async with asyncio.timeout(10):
            await run.result()


async def test_of_two_attempts_that_speak_at_once_the_later_counts() -> None:
    talk = Talk()
    async with running(talk.app) as node:
        run = await node.trigger("t-talk")
        with (
            node.streams.following(run.run_id) as reader,
            node.streams.teeing(run.run_id) as old,
            node.streams.teeing(run.run_id) as new,
        ):
            await old.add(Entry("data", "s", b"1"))
            await new.add(Entry("data", "s", b"2"))
            # Nobody has heard yet that the connection of the first is gone.
            await old.add(Entry("data", "s", b"3"))
            await old.add(Entry("commit", "s"))
            await old.broke_off()
            await new.add(Entry("data", "s", b"4"))
            await new.add(Entry("commit", "s"))
            assert shown(await some(reader, 5)) == [1, "rollback", 2, 4, "commit"]
        talk.say(None)
        await run.result()
        assert node.streams._tails == {}


async def test_what_was_said_is_kept_when_the_node_stops_however_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "_ROW_BYTES", 10)
    talk = Talk()
    async with running(talk.app) as node:
        run = await node.trigger("t-talk")
        with node.streams.following(run.run_id) as reader, node.streams.teeing(run.run_id) as tee:
            talk.say("begun")
            await reader.next()
            for number in range(100):
                await tee.add(Entry("data", "s", b"%d" % number))
            await node.streams.close()
            kept = await node.view(partial(streams.events_after, run.run_id, 95))
            assert shown(kept)[-1] == 99


async def test_a_look_at_what_others_said_leaves_no_gap_where_nobody_did() -> None:
    talk = Talk()
    async with running(talk.app) as node:
        run = await node.trigger("t-talk")
        with node.streams.following(run.run_id) as reader, node.streams.teeing(run.run_id) as tee:
            talk.say("begun")
            await reader.next()
            said: list[StreamEvent] = []
            for number in range(3):
                await tee.add(Entry("data", "s", b"%d" % number))
                said += await some(reader, 1)
                await node.streams._tails[run.run_id].settle()
                node.streams.grew(None)
            await tee.add(Entry("commit", "s"))
            said += await some(reader, 1)
            first = said[0].offset
            assert [event.offset - first for event in said] == [0, 1, 2, 3]
        talk.say(None)
        await run.result()

"""The hub: who hears what, and what becomes of those who do not listen."""

from __future__ import annotations

import asyncio
import threading

import msgspec
import pytest

from perdure.bus.realtime import (
    MAX_BACKLOG,
    MAX_BACKLOG_BYTES,
    MAX_TOPICS,
    TOO_SLOW,
    Ended,
    Hub,
    MessageTooLargeError,
    Subscription,
)
from perdure.model import json
from perdure.model.values import UnserializableError
from perdure.wire.realtime import MAX_MESSAGE_BYTES, MAX_STREAM_BYTES, Topic


def hub() -> Hub:
    return Hub(now=lambda: 0, new_id=lambda: "s1")


async def heard(subscription: Subscription) -> dict[str, object]:
    frame: dict[str, object] = json.decode((await subscription.next()).body)
    return frame


async def test_one_message_is_heard_once_however_often_its_topic_was_asked_for() -> None:
    subject = hub()
    with subject.subscribed([Topic("c", "t"), Topic("c", "t", run_id="r")]) as subscription:
        subscription.add([Topic("c", "t")])
        subject.publish("c", "t", 1)
        subject.publish("c", "t", 2)
        assert [(await heard(subscription))["data"] for _ in range(2)] == [1, 2]
        subscription.remove([Topic("c", "t"), Topic("c", "never asked for")])
        subject.publish("c", "t", 3)
        subscription.close("done")
        with pytest.raises(Ended, match="done"):
            await subscription.next()


async def test_a_thread_publishes_to_subscribers_of_the_event_loop() -> None:
    subject = hub()
    with subject.subscribed([Topic("c", "t")]) as subscription:
        waiting = asyncio.create_task(heard(subscription))
        await asyncio.to_thread(subject.publish, "c", "t", 1)
        assert (await waiting)["data"] == 1
        late = threading.Thread(target=subject.publish, args=("c", "t", 2))
        late.start()
        # It has published before the end, and is heard after it, which is too late.
        late.join()
        subscription.close("done")
        with pytest.raises(Ended):
            await subscription.next()


async def test_what_was_heard_before_the_end_is_still_taken() -> None:
    subject = hub()
    with subject.subscribed([Topic("c", "t")]) as subscription:
        subject.publish("c", "t", 1)
        subject.hang_up("the server stops")
        subject.publish("c", "t", 2)
        assert (await heard(subscription))["data"] == 1
        with pytest.raises(Ended, match="the server stops"):
            await subscription.next()


@pytest.mark.parametrize(("text", "times"), [("", MAX_BACKLOG + 1), ("x" * 500_000, MAX_BACKLOG_BYTES // 500_000 + 1)])
async def test_who_does_not_take_its_messages_is_given_up_alone(text: str, times: int) -> None:
    subject = hub()
    topics = [Topic("c", "t")]
    with subject.subscribed(topics) as slow, subject.subscribed(topics) as quick:
        for _ in range(times):
            subject.publish("c", "t", text)
            await heard(quick)
        with pytest.raises(Ended, match=TOO_SLOW):
            await slow.next()
        assert not quick.ended.is_set()


async def test_a_stream_ends_with_the_error_that_ended_it() -> None:
    subject = hub()
    with subject.subscribed([Topic("c", "t")]) as subscription:
        with pytest.raises(OSError, match="gone"), subject.stream("c", "t") as stream:
            stream.write("half")
            raise OSError("gone")
        frames = [await heard(subscription) for _ in range(3)]
    assert [frame["kind"] for frame in frames] == ["datastream-start", "chunk", "datastream-end"]
    assert frames[1]["stream_id"] == frames[0]["data"] == frames[2]["data"] == "s1"
    assert frames[2]["metadata"] == {"error": "gone"}


def test_what_is_too_large_is_refused() -> None:
    subject = hub()
    subject.publish_json("c", "t", msgspec.Raw(b'"' + b"x" * (MAX_MESSAGE_BYTES - 2) + b'"'))
    with pytest.raises(MessageTooLargeError, match="524289 bytes, at most 524288"):
        subject.publish("c", "t", "x" * (MAX_MESSAGE_BYTES - 1))
    with pytest.raises(MessageTooLargeError, match="a stream is at most"), subject.stream("c", "t") as stream:
        stream.write("x" * MAX_STREAM_BYTES)
        stream.write("é")


def test_what_is_no_json_is_refused_by_name() -> None:
    with pytest.raises(UnserializableError, match="a message to 'c', 't'"):
        hub().publish("c", "t", {"a": object()})


async def test_topics_have_a_limit_and_none_is_added_beyond_it() -> None:
    subject = hub()
    with subject.subscribed([Topic("c", str(number)) for number in range(MAX_TOPICS)]) as subscription:
        with pytest.raises(ValueError, match="at most 1000 topics"):
            subscription.add([Topic("c", "0"), Topic("c", "one more")])
        subscription.add([Topic("c", "0")])
    assert subject._bus._listeners == {}

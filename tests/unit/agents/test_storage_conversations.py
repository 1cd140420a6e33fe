"""Threads and messages: who may have them, in which order they stand, and what goes together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from perdure.agents.errors import AccessDeniedError, ConflictError, InvalidOptionError, ThreadNotFoundError
from perdure.agents.messages import DataPart, Message, Part, TextPart, ToolInvocation, ToolPart
from perdure.agents.storage import AgentStorage, Include
from perdure.agents.storage.vectors import pack
from tests.support.agent_storage import Hands, a_run, said, storing


async def test_a_thread_is_created_at_its_first_use_and_refused_to_others() -> None:
    async with storing() as storage:
        made = await storage.ensure_thread("t", "ann", title="Trip", metadata={"tag": 1})
        assert (made.id, made.resource_id, made.title, made.metadata) == ("t", "ann", "Trip", {"tag": 1})
        assert await storage.ensure_thread("t", "ann", title="ignored") == made
        with pytest.raises(AccessDeniedError, match="Access denied: thread belongs to a different resource") as caught:
            await storage.ensure_thread("t", "bob")
        assert caught.value.status == 403


async def test_two_first_uses_at_once_make_one_thread(tmp_path: Path) -> None:
    async with storing(tmp_path / "db") as storage:
        made = await asyncio.gather(
            storage.ensure_thread("t", "ann"), storage.ensure_thread("t", "bob"), return_exceptions=True
        )
        assert sorted(type(each).__name__ for each in made) == ["AccessDeniedError", "Thread"]


async def test_a_thread_with_a_taken_id_is_not_created() -> None:
    async with storing() as storage:
        first = await storage.create_thread("ann")
        assert first.id == "id-1"
        with pytest.raises(ConflictError, match="id-1"):
            await storage.create_thread("ann", id="id-1")


async def test_threads_are_listed_by_resource_metadata_and_order() -> None:
    clock = Hands()
    async with storing(clock=clock) as storage:
        for index, (owner, tag) in enumerate([("ann", "a"), ("bob", "a"), ("ann", "b"), ("ann", "a")]):
            clock.at = 1_000 + index
            await storage.create_thread(owner, id=f"t{index}", metadata={"tag": tag, "n": index})
        page = await storage.threads(resource_id="ann", per_page=2)
        assert ([each.id for each in page.items], page.total, page.has_more) == (["t3", "t2"], 3, True)
        page = await storage.threads(resource_id="ann", per_page=2, page=1)
        assert ([each.id for each in page.items], page.has_more) == (["t0"], False)
        assert [each.id for each in (await storage.threads(metadata={"tag": "a"}, descending=False)).items] == [
            "t0",
            "t1",
            "t3",
        ]
        assert (await storage.threads(metadata={"tag": "a", "n": 1})).total == 1
        assert (await storage.threads(metadata={"n": "1"})).total == 0, "a text is not a number"
        clock.at = 2_000
        await storage.update_thread("t0", title="New")
        assert (await storage.threads(order_by="updatedAt")).items[0].title == "New"
        with pytest.raises(InvalidOptionError, match="page: must be 0 or more"):
            await storage.threads(page=-1)


async def test_messages_get_their_order_from_the_storage() -> None:
    async with storing() as storage:
        await storage.create_thread("u", id="t")
        await storage.save_messages([said("b", at=5_000), said("a", at=1)])
        await storage.save_messages([said("c", at=3)])
        page = await storage.messages("t")
        assert [each.id for each in page.items] == ["b", "a", "c"]
        found, place = await storage.last_messages("t", 2)
        assert ([each.id for each in found], place) == (["a", "c"], 3)
        await storage.save_messages([said("d")])
        again, _ = await storage.last_messages("t", 2, until=place)
        assert again == found, "the same question has the same answer"


async def test_saving_the_same_id_replaces_the_message_in_its_place() -> None:
    async with storing() as storage:
        await storage.create_thread("u", id="t")
        await storage.save_messages([said("a", at=7), said("b")])
        saved = await storage.save_messages([said("a", "changed", at=9)])
        assert saved[0].created_at == 7
        found = (await storage.messages("t")).items
        assert [(each.id, each.text) for each in found] == [("a", "changed"), ("b", "hello")]
        await storage.save_messages([said("c", "one"), said("c", "two")])
        assert [(each.id, each.text) for each in (await storage.messages("t")).items[2:]] == [("c", "two")]


async def test_a_message_cannot_take_the_place_of_one_in_another_thread() -> None:
    async with storing() as storage:
        await storage.create_thread("u", id="t")
        await storage.create_thread("u", id="other")
        await storage.save_messages([said("a")])
        with pytest.raises(ConflictError, match="'a' is taken in another thread"):
            await storage.save_messages([said("new", thread="other"), said("a", "mine", thread="other")])
        assert (await storage.messages("other")).total == 0, "all or none"
        found = await storage.message("a")
        assert found is not None and found.text == "hello"


async def test_messages_are_saved_only_into_threads_of_their_resource() -> None:
    async with storing() as storage:
        with pytest.raises(ThreadNotFoundError, match="there is no thread 't'"):
            await storage.save_messages([said("a")])
        await storage.create_thread("ann", id="t")
        with pytest.raises(AccessDeniedError):
            await storage.save_messages([said("a", resource="bob")])
        with pytest.raises(InvalidOptionError, match=r"messages\[0\]: needs a thread_id"):
            await storage.save_messages([Message("a", "user", [], 1)])


async def test_parts_of_every_kind_come_back_as_they_were() -> None:
    parts: list[Part] = [
        TextPart("hi", {"p": 1}),
        ToolPart(ToolInvocation("result", "c1", "weather", {"city": "Rome"}, {"t": 20})),
        DataPart({"type": "data-chart", "data": [1, 2]}),
    ]
    async with storing() as storage:
        await storage.create_thread("u", id="t")
        message = Message("m", "assistant", parts, 5, "t", "u", "v2", {"key": [1]})
        await storage.save_messages([message])
        assert await storage.message("m") == message


async def test_pages_of_messages_are_the_newest_first_and_ascending_inside() -> None:
    async with storing() as storage:
        await storage.create_thread("u", id="t")
        roles = ("user", "assistant")
        await storage.save_messages([said(f"m{n}", role=roles[n % 2], at=n) for n in range(7)])  # type: ignore[arg-type]
        page = await storage.messages("t", per_page=3)
        assert ([each.id for each in page.items], page.total, page.has_more) == (["m4", "m5", "m6"], 7, True)
        page = await storage.messages("t", per_page=3, page=2)
        assert ([each.id for each in page.items], page.has_more) == (["m0"], False)
        page = await storage.messages("t", per_page=2, newest=False)
        assert [each.id for each in page.items] == ["m0", "m1"]
        page = await storage.messages("t", roles=["user"], after=2, before=4)
        assert [each.id for each in page.items] == ["m2", "m4"]
        page = await storage.messages("t", per_page=1, include=[Include("m2", previous=1, next=1)])
        assert [each.id for each in page.items] == ["m1", "m2", "m3", "m6"]
        assert (await storage.messages("t", per_page=None)).total == 7


async def test_deleted_messages_leave_the_order_of_the_others() -> None:
    async with storing() as storage:
        await storage.create_thread("u", id="t")
        await storage.save_messages([said(f"m{n}") for n in range(3)])
        assert await storage.delete_messages(["m2", "gone"], thread_id="t") == 1
        assert await storage.delete_messages(["m1"], thread_id="other") == 0
        await storage.save_messages([said("m3")])
        assert [each.id for each in (await storage.messages("t")).items] == ["m0", "m1", "m3"]


async def test_a_clone_is_a_copy_with_new_ids() -> None:
    async with storing() as storage:
        await storage.create_thread("u", id="t", title="Trip", metadata={"a": 1})
        await storage.save_messages([said("m0", "one"), said("m1", "two"), said("m2", "three")])
        clone = await storage.clone_thread("t", new_id="copy", metadata={"b": 2}, message_limit=2)
        assert clone.thread.metadata == {
            "a": 1,
            "b": 2,
            "clone": {"sourceThreadId": "t", "clonedAt": 1_000, "lastMessageId": "m2"},
        }
        assert (clone.thread.title, clone.thread.resource_id) == ("Trip", "u")
        assert list(clone.message_ids) == ["m1", "m2"]
        copied = (await storage.messages("copy")).items
        assert [each.text for each in copied] == ["two", "three"]
        assert [each.id for each in copied] == list(clone.message_ids.values())
        await storage.save_messages([said("more", thread="copy")])
        assert (await storage.messages("t")).total == 3
        with pytest.raises(ConflictError):
            await storage.clone_thread("t", new_id="copy")
        with pytest.raises(ThreadNotFoundError):
            await storage.clone_thread("nowhere")


async def test_a_thread_goes_with_everything_in_it() -> None:
    async with storing() as storage:
        await storage.create_thread("u", id="t")
        await storage.save_messages([said("m")])
        await storage.put_embeddings("m", "e", [[1.0, 0.0]])
        assert await storage.delete_thread("t")
        assert not await storage.delete_thread("t")
        assert await storage.message("m") is None
        assert await storage.search([1.0, 0.0], space="e", thread_id="t") == []


async def test_a_transferred_thread_is_refused_to_its_former_owner() -> None:
    async with storing() as storage:
        await storage.create_thread("ann", id="t")
        await storage.save_messages([said("m", resource="ann")])
        await storage.put_embeddings("m", "e", [[1.0, 0.0]])
        moved = await storage.transfer_thread("t", "bob")
        assert moved.resource_id == "bob"
        found = await storage.message("m")
        assert found is not None and found.resource_id == "bob"
        assert [each.message_id for each in await storage.search([1.0, 0.0], space="e", resource_id="bob")] == ["m"]
        with pytest.raises(AccessDeniedError):
            await storage.ensure_thread("t", "ann")


async def test_working_memory_belongs_to_a_resource_or_to_a_thread() -> None:
    async with storing() as storage:
        await storage.create_thread("u", id="t")
        assert await storage.resource_memory("u") is None
        await storage.set_resource_memory("u", "# Ann")
        await storage.set_thread_memory("t", "# Trip")
        assert (await storage.resource_memory("u"), await storage.thread_memory("t")) == ("# Ann", "# Trip")
        await storage.save_messages([said("m")])
        assert await storage.thread_memory("t") == "# Trip", "saving messages keeps it"
        with pytest.raises(ThreadNotFoundError):
            await storage.set_thread_memory("nowhere", "x")


async def _four(storage: AgentStorage) -> None:
    await storage.create_thread("u", id="t")
    await storage.create_thread("u", id="t2")
    await storage.save_messages([said("east"), said("north"), said("northeast"), said("west", thread="t2")])
    await storage.put_embeddings("east", "e", [[2.0, 0.0]])
    await storage.put_embeddings("north", "e", [[0.0, 3.0], [1.0, 9.0]])
    await storage.put_embeddings("northeast", "e", [[1.0, 1.0]])
    await storage.put_embeddings("west", "e", [[-1.0, 0.0]])


async def test_search_finds_the_nearest_messages_best_first() -> None:
    async with storing() as storage:
        await _four(storage)
        found = await storage.search([5.0, 0.0], space="e", thread_id="t", limit=2)
        assert [(each.message_id, round(each.score, 3)) for each in found] == [("east", 1.0), ("northeast", 0.707)]
        found = await storage.search([-1.0, 0.1], space="e", resource_id="u", limit=1)
        assert [(each.message_id, each.thread_id) for each in found] == [("west", "t2")]
        assert await storage.search([1.0, 0.0], space="another", thread_id="t") == []
        assert await storage.search([1.0, 0.0, 0.0], space="e", thread_id="t") == [], "of another length"
        with pytest.raises(InvalidOptionError, match="one of them"):
            await storage.search([1.0], space="e")


async def test_search_goes_through_all_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    from perdure.agents.storage import conversations

    monkeypatch.setattr(conversations, "_VECTORS_AT_ONCE", 2)
    async with storing() as storage:
        await _four(storage)
        assert len(await storage.search([1.0, 0.0], space="e", resource_id="u", limit=9)) == 4


async def test_new_vectors_take_the_place_of_the_old_ones() -> None:
    async with storing() as storage:
        await _four(storage)
        assert await storage.put_embeddings("north", "e", [[0.0, -1.0]]) == 1
        found = await storage.search([0.0, 1.0], space="e", thread_id="t", limit=9)
        assert found[-1].message_id == "north"
        assert await storage.put_embeddings("nobody", "e", [[1.0]]) == 0


@pytest.mark.parametrize("vector", [[], [0.0, 0.0], [float("nan")], [float("inf")]])
def test_a_vector_without_direction_is_refused(vector: list[float]) -> None:
    with pytest.raises(InvalidOptionError, match="must have a direction"):
        pack(vector)


@pytest.mark.parametrize("bad", ["a\0b", "\ud800", "x" * 513])
async def test_ids_and_texts_that_no_store_can_keep_are_refused(bad: str) -> None:
    async with storing() as storage:
        await storage.create_thread("u", id="t", metadata={"fine": "é"})
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: storage.create_thread("u", id=bad),
            lambda: storage.create_thread(bad),
            lambda: storage.save_messages([said(bad)]),
            lambda: storage.put_run(a_run(bad)),
            lambda: storage.put_signal("r", bad, {}),
        ]
        if len(bad) < 513:
            calls += [
                lambda: storage.create_thread("u", title=bad),
                lambda: storage.create_thread("u", metadata={"deep": [bad]}),
                lambda: storage.update_thread("t", metadata={bad: 1}),
                lambda: storage.set_resource_memory("u", bad),
                lambda: storage.set_thread_memory("t", bad),
                lambda: storage.threads(metadata={"a": bad}),
            ]
        for call in calls:
            with pytest.raises(InvalidOptionError):
                await call()
        assert (await storage.threads(metadata={"fine": "é"})).total == 1

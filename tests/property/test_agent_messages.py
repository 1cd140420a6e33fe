"""A thread is what it would be if its messages were a list: in order of saving, each id once, pages cut out of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from perdure.agents.errors import ConflictError
from perdure.agents.messages import Message, TextPart
from perdure.agents.storage import AgentStorage, Include
from perdure.store.sqlite import SqliteStore

ids = st.sampled_from([f"m{n}" for n in range(8)])
saves = st.lists(st.tuples(st.sampled_from("ab"), st.lists(ids, min_size=1, max_size=4)), max_size=12)


def cut(shown: Sequence[str], page: int, size: int) -> list[str]:
    """The page of a list that has its newest at the end."""
    end = len(shown) - page * size
    return list(shown[max(end - size, 0) : max(end, 0)])


async def played(script: list[tuple[str, list[str]]], deleted: str, size: int) -> None:
    store = SqliteStore(":memory:")
    await store.open()
    try:
        storage = AgentStorage(store, now=lambda: 1_000, ids=str)
        threads: dict[str, list[str]] = {"a": [], "b": []}
        texts: dict[str, str] = {}
        for thread in threads:
            await storage.create_thread("u", id=thread)
        for number, (thread, wanted) in enumerate(script):
            other = threads["b" if thread == "a" else "a"]
            messages = [Message(each, "user", [TextPart(f"{number}")], 1, thread, "u") for each in wanted]
            try:
                await storage.save_messages(messages)
            except ConflictError:
                assert set(wanted) & set(other)
                continue
            assert not set(wanted) & set(other)
            threads[thread] += [each for each in dict.fromkeys(wanted) if each not in threads[thread]]
            texts |= dict.fromkeys(wanted, f"{number}")
        await storage.delete_messages([deleted])
        for thread, there in threads.items():
            shown = [each for each in there if each != deleted]
            for page in range(len(shown) // size + 2):
                found = await storage.messages(thread, page=page, per_page=size)
                assert [each.id for each in found.items] == cut(shown, page, size)
                assert (found.total, found.has_more) == (len(shown), (page + 1) * size < len(shown))
                assert all(each.text == texts[each.id] for each in found.items)
            for place, each in enumerate(shown):
                near = await storage.around([Include(each, 1, 2)])
                assert [message.id for message in near] == shown[max(place - 1, 0) : place + 3]
    finally:
        await store.close()


@given(saves, ids, st.integers(1, 4))
def test_a_thread_is_a_list_of_messages(script: list[tuple[str, list[str]]], deleted: str, size: int) -> None:
    asyncio.run(played(script, deleted, size))

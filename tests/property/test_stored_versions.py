"""Stored agents stay as they should be, whatever is done to them in whatever order."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Final, TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.agents.errors import AgentError
from perdure.agents.stored.storage import StoredAgents
from perdure.model.json import Json
from perdure.store.naming import make_store

Deed: TypeAlias = tuple[str, int, Json, bool]
FIRST: Final[Json] = {"name": "Desk", "instructions": "Help."}
DEEDS: Final = st.lists(
    st.tuples(
        st.sampled_from(["edit", "snapshot", "activate", "restore", "delete", "archive", "publish", "unpublish"]),
        st.integers(0, 6),
        st.dictionaries(
            st.sampled_from(["name", "description", "tools"]), st.sampled_from(["a", "b", None]), max_size=2
        ).filter(lambda fields: fields.get("name", "") is not None),
        st.booleans(),
    ),
    max_size=12,
)


@given(DEEDS, st.booleans())
@settings(max_examples=25, deadline=None)
def test_whatever_is_done_a_version_in_force_is_there_and_numbers_rise(deeds: list[Deed], publish: bool) -> None:
    asyncio.run(_do(deeds, publish))


async def _do(deeds: Sequence[Deed], publish: bool) -> None:
    store, count, ticks = make_store(":memory:"), itertools.count(1), itertools.count(1)
    await store.open()
    try:
        stored = StoredAgents(store, now=lambda: next(ticks), ids=lambda: f"id-{next(count)}")
        await stored.create("desk", FIRST, app_id="shop", publish=publish)
        seen = {1: FIRST}
        for deed in deeds:
            before = await stored.find("desk")
            assert before is not None
            try:
                await _one(stored, deed)
            except AgentError:
                # What is refused has changed nothing.
                assert await stored.find("desk") == before
            await _check(stored, seen)
            after = await stored.find("desk")
            if deed[0] == "edit" and after is not None and after.latest != before.latest:
                assert after.latest.config != before.latest.config and after.latest.changed_fields
    finally:
        await store.close()


async def _one(stored: StoredAgents, deed: Deed) -> None:
    kind, place, fields, publish = deed
    versions = (await stored.versions("desk", per_page=None)).items
    chosen = versions[place % len(versions)].id
    if kind == "edit":
        await stored.edit("desk", fields, publish=publish)
    elif kind == "snapshot":
        await stored.snapshot("desk")
    elif kind in ("activate", "restore"):
        await getattr(stored, kind)("desk", chosen)
    elif kind == "delete":
        await stored.delete_version("desk", chosen)
    else:
        statuses: Json = {"archive": "archived", "publish": "published", "unpublish": "draft"}
        await stored.edit("desk", status=statuses[kind])


async def _check(stored: StoredAgents, seen: dict[int, Json]) -> None:
    """A version never changes, no number comes twice, and what is in force is one of the versions."""
    agent = await stored.find("desk")
    versions = (await stored.versions("desk", per_page=None)).items
    assert agent is not None and versions and agent.latest == versions[0]
    for version in versions:
        assert seen.setdefault(version.number, version.config) == version.config
    numbers = [version.number for version in versions]
    assert numbers == sorted(set(numbers), reverse=True)
    assert agent.active is None or agent.active in versions
    assert (agent.status == "draft") <= (agent.active is None) and (agent.status == "published") <= bool(agent.active)

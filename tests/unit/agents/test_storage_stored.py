"""Stored agents in the storage: what makes a version, what is in force, what may go, on both stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from perdure.agents.errors import ConflictError, InvalidOptionError
from perdure.agents.stored.config import FIELDS
from perdure.agents.stored.storage import NoSuchAgentError, NoSuchVersionError, StoredAgents
from perdure.engine.agents.stored.versions import KEPT
from perdure.model.json import Json
from tests.support.agent_storage import Hands, storing

FIRST: Json = {"name": "Desk", "instructions": "Help.", "model": {"provider": "test", "name": "scripted"}}


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
async def stored(tmp_path: Path, clock: Hands) -> AsyncGenerator[StoredAgents]:
    async with storing(tmp_path / "stored.db", clock) as storage:
        yield StoredAgents(storage.store, now=storage.now, ids=storage.ids)


async def test_a_new_agent_has_one_version_that_is_in_force(stored: StoredAgents) -> None:
    made = await stored.create("desk", FIRST, app_id="shop", metadata={"team": "a"})
    assert made == await stored.find("desk")
    assert made.status == "published" and made.active == made.latest and not made.has_draft
    assert (made.latest.number, made.latest.config, made.latest.message) == (1, FIRST, "Initial version")
    assert made.latest.changed_fields == list(FIELDS[:-1])
    with pytest.raises(ConflictError, match="Agent with id desk already exists"):
        await stored.create("desk", FIRST, app_id="shop")
    assert await stored.find("nobody") is None
    assert await stored.changes() == {"desk": ((1, 1_000),)}


async def test_a_draft_has_nothing_in_force_until_it_is_activated(stored: StoredAgents) -> None:
    made = await stored.create("desk", FIRST, app_id="shop", publish=False)
    assert (made.status, made.active, made.has_draft) == ("draft", None, True)
    await stored.activate("desk", made.latest.id)
    found = await stored.find("desk")
    assert found is not None and (found.status, found.active) == ("published", made.latest)


async def test_an_edit_makes_a_version_of_the_newest_one_and_publishes_nothing(
    stored: StoredAgents, clock: Hands
) -> None:
    made = await stored.create("desk", FIRST, app_id="shop")
    clock.at += 5
    first = await stored.edit("desk", {"name": "Counter", "description": "d"})
    second = await stored.edit("desk", {"description": None, "tools": {"add": {}}}, message="tools")
    assert first.latest.changed_fields == ["name", "description"] and first.latest.message == "Auto-saved after edit"
    assert second.latest.changed_fields == ["description", "tools"] and second.latest.message == "tools"
    assert second.latest.config == {**FIRST, "name": "Counter", "tools": {"add": {}}}
    assert second.active == made.latest and second.has_draft and second.updated_at == made.updated_at + 5
    published = await stored.edit("desk", {"name": "Till"}, publish=True)
    assert published.active == published.latest and published.latest.number == 4


async def test_an_edit_that_changes_nothing_makes_no_version(stored: StoredAgents) -> None:
    await stored.create("desk", FIRST, app_id="shop")
    same = await stored.edit("desk", {"name": "Desk", "memory": None}, metadata={"a": 1})
    again = await stored.edit("desk", metadata={"b": 2})
    assert same.latest.number == again.latest.number == 1
    assert again.metadata == {"a": 1, "b": 2}
    # What is published without a change is the newest version.
    await stored.edit("desk", {"name": "Till"})
    assert (await stored.edit("desk", {"name": "Till"}, publish=True)).active == (await stored.find("desk")).latest  # type: ignore[union-attr]


async def test_edits_at_once_all_count(stored: StoredAgents) -> None:
    await stored.create("desk", FIRST, app_id="shop")
    fields = ["description", "tools", "agents", "workflows"]
    await asyncio.gather(*(stored.edit("desk", {field: {"x": {}}}) for field in fields))
    found = await stored.find("desk")
    assert found is not None and set(found.latest.config) == {*FIRST, *fields}
    page = await stored.versions("desk")
    assert [version.number for version in page.items] == [5, 4, 3, 2, 1]
    assert sorted(field for version in page.items[:-1] for field in version.changed_fields) == sorted(fields)


async def test_a_snapshot_has_what_is_in_force_and_a_restored_version_what_was(stored: StoredAgents) -> None:
    made = await stored.create("desk", FIRST, app_id="shop")
    await stored.edit("desk", {"name": "Till"})
    taken = await stored.snapshot("desk", "before the fair")
    assert (taken.number, taken.config, taken.message) == (3, FIRST, "before the fair")
    assert taken.changed_fields == ["name"] and (await stored.snapshot("desk")).changed_fields == []
    await stored.edit("desk", {"name": "Counter"})
    back = await stored.restore("desk", made.latest.id)
    assert back.config == FIRST and back.message == "Restored from version 1" and back.changed_fields == ["name"]
    found = await stored.find("desk")
    assert found is not None and found.active == made.latest


async def test_the_version_in_force_cannot_be_deleted_and_numbers_never_come_twice(stored: StoredAgents) -> None:
    made = await stored.create("desk", FIRST, app_id="shop")
    draft = (await stored.edit("desk", {"name": "Till"})).latest
    with pytest.raises(InvalidOptionError, match="Cannot delete the active version"):
        await stored.delete_version("desk", made.latest.id)
    assert (await stored.delete_version("desk", draft.id)).number == 2
    with pytest.raises(NoSuchVersionError, match=f"Version with id {draft.id} not found"):
        await stored.version("desk", draft.id)
    assert (await stored.snapshot("desk")).number == 3


async def test_the_only_version_of_a_draft_stays(stored: StoredAgents) -> None:
    made = await stored.create("desk", FIRST, app_id="shop", publish=False)
    with pytest.raises(InvalidOptionError):
        await stored.delete_version("desk", made.latest.id)


async def test_versions_of_others_are_not_found(stored: StoredAgents) -> None:
    made = await stored.create("desk", FIRST, app_id="shop")
    await stored.create("till", FIRST, app_id="shop")
    for ask in (stored.version, stored.activate, stored.restore, stored.delete_version):
        with pytest.raises(NoSuchVersionError, match="not found for agent till"):
            await ask("till", made.latest.id)
    with pytest.raises(NoSuchAgentError):
        await stored.edit("nobody", {"name": "x"})
    with pytest.raises(NoSuchAgentError):
        await stored.snapshot("nobody")


async def test_old_versions_go_but_never_the_one_in_force(stored: StoredAgents) -> None:
    made = await stored.create("desk", FIRST, app_id="shop")
    for number in range(KEPT + 5):
        await stored.edit("desk", {"description": str(number)})
    page = await stored.versions("desk", per_page=None)
    assert page.total == KEPT and page.items[-1].id == made.latest.id
    assert [version.number for version in page.items[:2]] == [KEPT + 6, KEPT + 5]


async def test_agents_are_listed_in_order_by_what_they_are(stored: StoredAgents, clock: Hands) -> None:
    for place, name in enumerate(("a", "b", "c")):
        clock.at += 1
        await stored.create(
            name, FIRST, app_id="shop", publish=name != "b", author_id=f"u{place % 2}", metadata={"n": place},
            visibility="private" if name == "c" else "public",
        )  # fmt: skip
    clock.at += 1
    await stored.edit("a", {"name": "A"})

    async def found(**chosen: Json) -> list[str]:
        return [agent.id for agent in (await stored.agents(**chosen)).items]

    assert await found() == ["c", "b", "a"]
    assert await found(descending=False) == ["a", "b", "c"] and await found(order_by="updatedAt") == ["a", "c", "b"]
    assert await found(status="published") == ["c", "a"] and await found(status="draft") == ["b"]
    assert await found(author_id="u0") == ["c", "a"] and await found(visibility="private") == ["c"]
    assert await found(metadata={"n": 1}) == ["b"] and await found(metadata={"n": "1"}) == []
    page = await stored.agents(page=1, per_page=2)
    assert ([agent.id for agent in page.items], page.total, page.has_more) == (["a"], 3, False)


async def test_an_agent_is_forgotten_with_all_that_is_its_own(stored: StoredAgents) -> None:
    await stored.create("desk", FIRST, app_id="shop")
    await stored.choose_model("desk", {"model": "test/other"})
    await stored.delete("desk")
    assert await stored.find("desk") is None and (await stored.versions("desk")).total == 0
    assert await stored.model("desk") is None
    with pytest.raises(NoSuchAgentError, match="Stored agent with id desk not found"):
        await stored.delete("desk")


async def test_statuses_are_set_and_taken_back(stored: StoredAgents) -> None:
    made = await stored.create("desk", FIRST, app_id="shop")
    assert (await stored.edit("desk", status="archived")).status == "archived"
    back = await stored.edit("desk", status="published")
    assert back.status == "published" and back.active == made.latest
    draft = await stored.edit("desk", status="draft")
    assert draft.status == "draft" and draft.active is None
    assert (await stored.edit("desk", status="published")).active == made.latest


async def test_a_choice_of_models_is_kept_until_it_is_taken_back(stored: StoredAgents) -> None:
    await stored.choose_model("desk", {"model": "test/one"})
    await stored.choose_model("desk", {"order": ["b", "a"]})
    assert await stored.model("desk") == {"order": ["b", "a"]}
    assert await stored.state("desk") == (None, {"order": ["b", "a"]})
    assert await stored.changes() == {"desk": ((0, 1_000),)}
    await stored.reset_model("desk")
    assert await stored.model("desk") is None and await stored.changes() == {}


@pytest.mark.parametrize(
    ("id", "config"),
    [("x\0", {}), ("x", {"name": "\ud800"}), ("x", {"name": "x" * 600_000})],
    ids=["nul", "half", "large"],
)
async def test_what_cannot_be_kept_is_refused(stored: StoredAgents, id: str, config: Json) -> None:
    with pytest.raises(InvalidOptionError):
        await stored.create(id, {**FIRST, **config}, app_id="shop")

"""Stored agents and their versions: how they come to be, are edited, published and forgotten.

A version is a whole configuration (a JSON object). Editing makes a new version of the newest one, and only if
something changes; what is in force stays until a version is activated. Invariants: what an edit changes, is decided
where it is written, so that two edits at once both count; the version in force is never forgotten.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from perdure.engine.agents.stored.mutations import (
    DeleteAgentModel,
    DeleteAgentVersion,
    DeleteAgentVersions,
    DeleteStoredAgent,
    PutAgentModel,
    PutAgentVersion,
    PutStoredAgent,
)
from perdure.engine.agents.stored.records import AgentModelRow, AgentVersionRow, StoredAgentRow, StoredStatus
from perdure.engine.turn import Decision, Read
from perdure.model.json import Json, decode, encode

KEPT: Final = 50
"""How many versions of an agent are kept; the one in force is never among those that go."""
EXISTS: Final = "exists"
MISSING: Final = "missing"
NO_VERSION: Final = "no version"
ACTIVE: Final = "active"

Refusal: TypeAlias = Literal["exists", "missing", "no version", "active"]
StoredOrder: TypeAlias = Literal["createdAt", "updatedAt"]
VersionOrder: TypeAlias = Literal["versionNumber", "createdAt"]
STORED_ORDERS: Final[tuple[StoredOrder, ...]] = ("createdAt", "updatedAt")
VERSION_ORDERS: Final[tuple[VersionOrder, ...]] = ("versionNumber", "createdAt")


class Found(msgspec.Struct):
    """A stored agent, its version in force, and its newest one."""

    agent: StoredAgentRow
    active: AgentVersionRow | None
    latest: AgentVersionRow


class Edit(msgspec.Struct):
    """What is to become of a stored agent. None leaves a field as it is.

    `config` are fields of the configuration (JSON bytes of an object), of which those that are null go; `metadata` is
    a JSON object that is laid over what is there. `version_id` is for the version that may come of it. `publish` puts
    the newest version in force; `unpublish` none.
    """

    version_id: str
    config: bytes | None = None
    metadata: str | None = None
    author_id: str | None = None
    visibility: str | None = None
    message: str | None = None
    publish: bool = False
    status: StoredStatus | None = None


def find(agent_id: str) -> Decision[Found | None]:
    """A stored agent with its versions that matter."""
    agent = yield from _agent(agent_id)
    return None if agent is None else (yield from _found(agent))


def create(agent: StoredAgentRow, version: AgentVersionRow, publish: bool) -> Decision[Found | Refusal]:
    """A new agent with its first version; `EXISTS` where there is one of its id."""
    if (yield from _agent(agent.id)) is not None:
        return EXISTS
    version.number = agent.last_number = 1
    if publish:
        agent.status, agent.active_version_id = "published", version.id
    yield PutAgentVersion(*msgspec.structs.astuple(version))
    yield PutStoredAgent(*msgspec.structs.astuple(agent))
    return Found(agent, version if publish else None, version)


def edit(agent_id: str, now: int, change: Edit) -> Decision[Found | Refusal]:
    """Changes an agent; a new version comes to be exactly if its configuration changes."""
    found = yield from find(agent_id)
    if found is None:
        return MISSING
    agent, version = found.agent, found.latest
    if change.config is not None:
        before: dict[str, Json] = decode(version.config)
        after = {name: value for name, value in {**before, **decode(change.config)}.items() if value is not None}
        changed = changed_fields(before, after)
        if changed:
            version = yield from _added(agent, change.version_id, after, changed, change.message, now)
    _retouch(agent, change, version)
    agent.updated_at = now
    yield PutStoredAgent(*msgspec.structs.astuple(agent))
    return (yield from _found(agent))


def snapshot(agent_id: str, version_id: str, now: int, message: str | None) -> Decision[AgentVersionRow | Refusal]:
    """A new version with the configuration in force, or with the newest one while none is."""
    found = yield from find(agent_id)
    if found is None:
        return MISSING
    source = found.active or found.latest
    return (yield from _copied(found, source, version_id, message, now))


def restore(agent_id: str, source_id: str, version_id: str, now: int) -> Decision[AgentVersionRow | Refusal]:
    """A new version with the configuration of an earlier one."""
    found = yield from find(agent_id)
    source = yield from version_by_id(source_id)
    if found is None:
        return MISSING
    if source is None or source.agent_id != agent_id:
        return NO_VERSION
    return (yield from _copied(found, source, version_id, f"Restored from version {source.number}", now))


def activate(agent_id: str, version_id: str, now: int) -> Decision[AgentVersionRow | Refusal]:
    """Puts a version in force."""
    agent = yield from _agent(agent_id)
    version = yield from version_by_id(version_id)
    if agent is None:
        return MISSING
    if version is None or version.agent_id != agent_id:
        return NO_VERSION
    agent.status, agent.active_version_id, agent.updated_at = "published", version.id, now
    yield PutStoredAgent(*msgspec.structs.astuple(agent))
    return version


def delete_version(agent_id: str, version_id: str, now: int) -> Decision[AgentVersionRow | Refusal]:
    """Forgets a version; `ACTIVE` for the one in force, and for the only one."""
    agent = yield from _agent(agent_id)
    version = yield from version_by_id(version_id)
    if agent is None:
        return MISSING
    if version is None or version.agent_id != agent_id:
        return NO_VERSION
    count = yield Read("count_agent_versions", (agent_id,))
    if agent.active_version_id == version_id or count[0][0] == 1:
        return ACTIVE
    # The newest one may be another now.
    agent.updated_at = now
    yield PutStoredAgent(*msgspec.structs.astuple(agent))
    yield DeleteAgentVersion(version_id)
    return version


def delete(agent_id: str) -> Decision[bool]:
    """Forgets an agent with all its versions."""
    there = (yield from _agent(agent_id)) is not None
    yield DeleteStoredAgent(agent_id)
    yield DeleteAgentVersions(agent_id)
    yield DeleteAgentModel(agent_id)
    return there


def list_agents(
    chosen: tuple[str | None, str | None, str | None, str | None],
    order: StoredOrder,
    descending: bool,
    limit: int,
    offset: int,
) -> Decision[tuple[list[Found], int]]:
    """A page of agents, and how many there are. Chosen by status, author, visibility and metadata (a JSON object)."""
    rows = yield Read("list_stored_agents", (*chosen, order, -1 if descending else 1, limit, offset))
    total = yield Read("count_stored_agents", chosen)
    found: list[Found] = []
    for row in rows:
        found.append((yield from _found(StoredAgentRow(*row))))
    return found, total[0][0]


def changes() -> Decision[list[tuple[str, int, int]]]:
    """What has changed last, and when: agents with the number of their newest version, and choices of models with 0."""
    rows = yield Read("stored_agent_changes", ())
    return [(row[0], row[1], row[2]) for row in rows]


def list_versions(
    agent_id: str, order: VersionOrder, descending: bool, limit: int, offset: int
) -> Decision[tuple[list[AgentVersionRow], int]]:
    """A page of an agent's versions, and how many there are."""
    rows = yield Read("list_agent_versions", (agent_id, order, -1 if descending else 1, limit, offset))
    total = yield Read("count_agent_versions", (agent_id,))
    return [AgentVersionRow(*row) for row in rows], total[0][0]


def version_by_id(version_id: str) -> Decision[AgentVersionRow | None]:
    """A version by its id."""
    rows = yield Read("agent_version_by_id", (version_id,))
    return AgentVersionRow(*rows[0]) if rows else None


def state(agent_id: str) -> Decision[tuple[Found | None, AgentModelRow | None]]:
    """A stored agent, if there is one, and which models answer for the agent of this id."""
    found = yield from find(agent_id)
    return found, (yield from model_of(agent_id))


def model_of(agent_id: str) -> Decision[AgentModelRow | None]:
    """Which models answer for an agent instead of its own; None where its own do."""
    rows = yield Read("agent_model_by_id", (agent_id,))
    return AgentModelRow(*rows[0]) if rows else None


def put_model(row: AgentModelRow) -> Decision[None]:
    """Chooses models for an agent."""
    yield PutAgentModel(*msgspec.structs.astuple(row))


def reset_model(agent_id: str) -> Decision[None]:
    """Lets an agent's own models answer again."""
    yield DeleteAgentModel(agent_id)


def changed_fields(before: dict[str, Json], after: dict[str, Json]) -> list[str]:
    """The fields that differ, in the order in which they stand.

    >>> changed_fields({"a": 1, "b": 2}, {"b": 3, "c": 4})
    ['a', 'b', 'c']
    """
    names = dict.fromkeys([*before, *after])
    return [name for name in names if before.get(name) != after.get(name)]


def _agent(agent_id: str) -> Decision[StoredAgentRow | None]:
    rows = yield Read("stored_agent_by_id", (agent_id,))
    return StoredAgentRow(*rows[0]) if rows else None


def _found(agent: StoredAgentRow) -> Decision[Found]:
    latest, _ = yield from list_versions(agent.id, "versionNumber", True, 1, 0)
    active = None
    if agent.active_version_id is not None:
        newest = latest[0].id == agent.active_version_id
        active = latest[0] if newest else (yield from version_by_id(agent.active_version_id))
    return Found(agent, active, latest[0])


def _retouch(agent: StoredAgentRow, change: Edit, version: AgentVersionRow) -> None:
    """What is of the agent itself, and has no versions."""
    if change.metadata is not None:
        agent.metadata = encode({**decode(agent.metadata or "{}"), **decode(change.metadata)}).decode()
    agent.author_id = change.author_id or agent.author_id
    agent.visibility = change.visibility or agent.visibility
    agent.status = change.status or agent.status
    if change.status == "draft":
        agent.active_version_id = None
    elif change.publish or (change.status == "published" and agent.active_version_id is None):
        agent.status, agent.active_version_id = "published", version.id


def _copied(
    found: Found, source: AgentVersionRow, version_id: str, message: str | None, now: int
) -> Decision[AgentVersionRow]:
    config: dict[str, Json] = decode(source.config)
    changed = changed_fields(decode(found.latest.config), config)
    made = yield from _added(found.agent, version_id, config, changed, message, now)
    found.agent.updated_at = now
    yield PutStoredAgent(*msgspec.structs.astuple(found.agent))
    return made


def _added(
    agent: StoredAgentRow, version_id: str, config: dict[str, Json], changed: list[str], message: str | None, now: int
) -> Decision[AgentVersionRow]:
    """Adds a version, and forgets the oldest ones that are too many. The agent's row is the caller's to write."""
    agent.last_number += 1
    made = AgentVersionRow(
        version_id, agent.id, agent.last_number, encode(config), encode(changed).decode(), message, now
    )
    oldest, total = yield from list_versions(agent.id, "versionNumber", False, KEPT, 0)
    spare = [version.id for version in oldest if version.id != agent.active_version_id]
    for version in spare[: max(total + 1 - KEPT, 0)]:
        yield DeleteAgentVersion(version)
    yield PutAgentVersion(*msgspec.structs.astuple(made))
    return made

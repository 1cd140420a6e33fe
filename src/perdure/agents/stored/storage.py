"""`StoredAgents`: the asynchronous face of the tables of stored agents, on an engine's store.

Invariant: what a method changed is committed when it returns; every method may raise `StoreError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import msgspec

from perdure.agents.errors import ConflictError, InvalidOptionError, NotThereError
from perdure.agents.storage.base import Base, page_of, slice_of
from perdure.agents.storage.opening import Engine
from perdure.agents.storage.shapes import Page
from perdure.agents.storage.texts import check_id, check_text, metadata_text
from perdure.agents.stored.config import FIRST_FIELDS, MAX_BYTES
from perdure.engine.agents.stored import versions
from perdure.engine.agents.stored.records import AgentModelRow, AgentVersionRow, StoredAgentRow, StoredStatus
from perdure.engine.agents.stored.versions import Edit, Found, Refusal, StoredOrder, VersionOrder
from perdure.model.json import Json, decode, encode

FIRST_MESSAGE = "Initial version"
EDIT_MESSAGE = "Auto-saved after edit"


def stored_agents_of(engine: Engine) -> StoredAgents:
    """The stored agents of an engine (`perdure.embedded` gives one): on its store, by its clock."""
    return StoredAgents(engine.store, now=engine.clock.now, ids=engine.decider.ids)


class Version(msgspec.Struct):
    """A version of a stored agent: a whole configuration, and what changed with it."""

    id: str
    agent_id: str
    number: int
    config: dict[str, Json]
    changed_fields: list[str]
    message: str | None
    created_at: int


class StoredAgent(msgspec.Struct):
    """An agent whose configuration is data. `active` is the version in force, None while there is none."""

    id: str
    app_id: str
    status: StoredStatus
    author_id: str | None
    visibility: str
    metadata: dict[str, Json] | None
    created_at: int
    updated_at: int
    active: Version | None
    latest: Version

    @property
    def has_draft(self) -> bool:
        """Whether the newest version is not the one in force."""
        return self.active is None or self.active.id != self.latest.id


class NoSuchAgentError(NotThereError):
    """There is no stored agent of this id."""


class NoSuchVersionError(NotThereError):
    """The agent has no version of this id."""


class StoredAgents(Base):
    """Stored agents, their versions, and which models answer for an agent."""

    async def create(
        self,
        id: str,
        config: Mapping[str, Json],
        *,
        app_id: str,
        publish: bool = True,
        author_id: str | None = None,
        visibility: str = "public",
        metadata: dict[str, Json] | None = None,
        message: str = FIRST_MESSAGE,
    ) -> StoredAgent:
        """A new agent with its first version. Raises `ConflictError` where there is one of this id."""
        now = self.now()
        check_id("id", id)
        check_text("authorId", author_id)
        row = StoredAgentRow(
            id, app_id, "draft", None, author_id, visibility, metadata_text(metadata), 0, now, now
        )  # fmt: skip
        extra = [field for field in config if field not in FIRST_FIELDS]
        version = AgentVersionRow(
            self.ids(), id, 0, _bytes(config), encode([*FIRST_FIELDS, *extra]).decode(), message, now
        )
        made = await self._decide(lambda: versions.create(row, version, publish))
        if made == versions.EXISTS:
            raise ConflictError(f"Agent with id {id} already exists")
        return self._known(made, id)

    async def find(self, agent_id: str) -> StoredAgent | None:
        """An agent by its id."""
        found = await self._view(lambda: versions.find(agent_id))
        return None if found is None else _agent_of(found)

    async def edit(
        self,
        agent_id: str,
        config: Mapping[str, Json] | None = None,
        *,
        metadata: dict[str, Json] | None = None,
        author_id: str | None = None,
        visibility: str | None = None,
        status: StoredStatus | None = None,
        message: str | None = None,
        publish: bool = False,
    ) -> StoredAgent:
        """Lays fields over the newest configuration; None in it takes a field away, `metadata` is laid over, too.

        A new version comes to be only if something changes. Raises `NoSuchAgentError`.
        """
        check_text("changeMessage", message)
        check_text("authorId", author_id)
        change = Edit(
            self.ids(), None if config is None else _bytes(config), metadata_text(metadata), author_id, visibility,
            message or EDIT_MESSAGE, publish, status,
        )  # fmt: skip
        now = self.now()
        return self._known(await self._decide(lambda: versions.edit(agent_id, now, change)), agent_id)

    async def delete(self, agent_id: str) -> None:
        """Forgets an agent with its versions. Raises `NoSuchAgentError`."""
        if not await self._decide(lambda: versions.delete(agent_id)):
            raise NoSuchAgentError(f"Stored agent with id {agent_id} not found")

    async def agents(
        self,
        *,
        status: StoredStatus | None = None,
        author_id: str | None = None,
        visibility: str | None = None,
        metadata: dict[str, Json] | None = None,
        order_by: StoredOrder = "createdAt",
        descending: bool = True,
        page: int = 0,
        per_page: int | None = 100,
    ) -> Page[StoredAgent]:
        """A page of agents. `metadata` is what they must have."""
        limit, offset = slice_of(page, per_page)
        chosen = (status, author_id, visibility, metadata_text(metadata))
        found, total = await self._view(lambda: versions.list_agents(chosen, order_by, descending, limit, offset))
        return page_of(list(map(_agent_of, found)), total, page, per_page)

    async def versions(
        self,
        agent_id: str,
        *,
        order_by: VersionOrder = "versionNumber",
        descending: bool = True,
        page: int = 0,
        per_page: int | None = 20,
    ) -> Page[Version]:
        """A page of an agent's versions; none where there is no such agent."""
        limit, offset = slice_of(page, per_page)
        rows, total = await self._view(lambda: versions.list_versions(agent_id, order_by, descending, limit, offset))
        return page_of(list(map(_version_of, rows)), total, page, per_page)

    async def version(self, agent_id: str, version_id: str) -> Version:
        """A version of an agent. Raises `NoSuchVersionError`."""
        row = await self._view(lambda: versions.version_by_id(version_id))
        if row is None:
            raise NoSuchVersionError(f"Version with id {version_id} not found")
        if row.agent_id != agent_id:
            raise NoSuchVersionError(f"Version with id {version_id} not found for agent {agent_id}")
        return _version_of(row)

    async def snapshot(self, agent_id: str, message: str | None = None) -> Version:
        """A new version with the configuration in force. Raises `NoSuchAgentError`."""
        check_text("changeMessage", message)
        id, now = self.ids(), self.now()
        return self._version(await self._decide(lambda: versions.snapshot(agent_id, id, now, message)), agent_id)

    async def restore(self, agent_id: str, version_id: str) -> Version:
        """A new version with the configuration of an earlier one. Raises `NotThereError`."""
        await self.version(agent_id, version_id)
        id, now = self.ids(), self.now()
        return self._version(await self._decide(lambda: versions.restore(agent_id, version_id, id, now)), agent_id)

    async def activate(self, agent_id: str, version_id: str) -> Version:
        """Puts a version in force. Raises `NotThereError`."""
        await self.version(agent_id, version_id)
        now = self.now()
        return self._version(await self._decide(lambda: versions.activate(agent_id, version_id, now)), agent_id)

    async def delete_version(self, agent_id: str, version_id: str) -> Version:
        """Forgets a version. Raises `NotThereError`, and `InvalidOptionError` for the one in force."""
        await self.version(agent_id, version_id)
        now = self.now()
        return self._version(await self._decide(lambda: versions.delete_version(agent_id, version_id, now)), agent_id)

    async def state(self, agent_id: str) -> tuple[StoredAgent | None, dict[str, Json] | None]:
        """A stored agent, if there is one, and which models were chosen for the agent of this id."""
        found, model = await self._view(lambda: versions.state(agent_id))
        choice: dict[str, Json] | None = None if model is None else decode(model.choice)
        return None if found is None else _agent_of(found), choice

    async def changes(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """When each agent has changed last, and its choice of models: what differs here has changed since."""
        found: dict[str, tuple[tuple[int, int], ...]] = {}
        for id, number, at in await self._view(versions.changes):
            found[id] = (*found.get(id, ()), (number, at))
        return {id: tuple(sorted(each)) for id, each in found.items()}

    async def model(self, agent_id: str) -> dict[str, Json] | None:
        """Which models answer for an agent instead of its own; None where its own do."""
        row = await self._view(lambda: versions.model_of(agent_id))
        found: dict[str, Json] | None = None if row is None else decode(row.choice)
        return found

    async def choose_model(self, agent_id: str, choice: Mapping[str, Json]) -> None:
        """Lets other models answer for an agent."""
        row = AgentModelRow(agent_id, _bytes(choice), self.now())
        await self._decide(lambda: versions.put_model(row))

    async def reset_model(self, agent_id: str) -> None:
        """Lets an agent's own models answer again."""
        await self._decide(lambda: versions.reset_model(agent_id))

    def _known(self, found: Found | Refusal, agent_id: str) -> StoredAgent:
        if isinstance(found, str):
            _refuse(found, agent_id)
        return _agent_of(found)

    def _version(self, found: AgentVersionRow | Refusal, agent_id: str) -> Version:
        if isinstance(found, str):
            _refuse(found, agent_id)
        return _version_of(found)


def _refuse(why: Refusal, agent_id: str) -> NoReturn:
    if why == versions.ACTIVE:
        raise InvalidOptionError("Cannot delete the active version. Activate a different version first.")
    if why == versions.NO_VERSION:
        raise NoSuchVersionError(f"the version of agent {agent_id} is gone")
    raise NoSuchAgentError(f"Stored agent with id {agent_id} not found")


def _bytes(value: Mapping[str, Json]) -> bytes:
    try:
        data = encode(dict(value))
    except UnicodeEncodeError:
        raise InvalidOptionError("a text holds half a surrogate pair, which UTF-8 cannot carry") from None
    if len(data) > MAX_BYTES:
        raise InvalidOptionError(f"a configuration may have {MAX_BYTES} bytes, this one has {len(data)}")
    return data


def _agent_of(found: Found) -> StoredAgent:
    row = found.agent
    return StoredAgent(
        id=row.id,
        app_id=row.app_id,
        status=row.status,
        author_id=row.author_id,
        visibility=row.visibility,
        metadata=None if row.metadata is None else decode(row.metadata),
        created_at=row.created_at,
        updated_at=row.updated_at,
        active=None if found.active is None else _version_of(found.active),
        latest=_version_of(found.latest),
    )


def _version_of(row: AgentVersionRow) -> Version:
    return Version(
        row.id, row.agent_id, row.number, decode(row.config), decode(row.changed), row.message, row.created_at
    )

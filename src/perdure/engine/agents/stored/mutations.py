"""The changes of the tables of stored agents: one Struct a statement of the store's `stored.sql`."""

from __future__ import annotations

from perdure.engine.mutations import Mutation


class PutStoredAgent(Mutation, frozen=True, gc=False):
    id: str
    app_id: str
    status: str
    active_version_id: str | None
    author_id: str | None
    visibility: str
    metadata: str | None
    last_number: int
    created_at: int
    updated_at: int


class DeleteStoredAgent(Mutation, frozen=True, gc=False):
    id: str


class PutAgentVersion(Mutation, frozen=True, gc=False):
    id: str
    agent_id: str
    number: int
    config: bytes
    changed: str
    message: str | None
    created_at: int


class DeleteAgentVersion(Mutation, frozen=True, gc=False):
    id: str


class DeleteAgentVersions(Mutation, frozen=True, gc=False):
    """Forgets all versions of an agent."""

    agent_id: str


class PutAgentModel(Mutation, frozen=True, gc=False):
    agent_id: str
    choice: bytes
    updated_at: int


class DeleteAgentModel(Mutation, frozen=True, gc=False):
    agent_id: str

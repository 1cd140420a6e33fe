"""Records of stored agents, fields in the order of the columns. Times are ms, JSON is text or bytes.

Invariants: a version is never changed once it is there; `active_version_id` names a version of the same agent, or
nothing; `last_number` is the number of the newest version that ever was, so that no number comes twice.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

StoredStatus: TypeAlias = Literal["draft", "published", "archived"]
STATUSES: Final = ("draft", "published", "archived")


class StoredAgentRow(msgspec.Struct, gc=False):
    """An agent whose configuration is data. `app_id` is the app whose parts it uses, `metadata` a JSON object."""

    id: str
    app_id: str
    status: StoredStatus
    active_version_id: str | None
    author_id: str | None
    visibility: str
    metadata: str | None
    last_number: int
    created_at: int
    updated_at: int


class AgentVersionRow(msgspec.Struct, gc=False):
    """A version of a stored agent. `config` is a JSON object, `changed` a JSON list of its fields."""

    id: str
    agent_id: str
    number: int
    config: bytes
    changed: str
    message: str | None
    created_at: int


class AgentModelRow(msgspec.Struct, gc=False):
    """Which models answer for an agent instead of its own. `choice` is a JSON object."""

    agent_id: str
    choice: bytes
    updated_at: int

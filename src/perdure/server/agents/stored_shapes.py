"""Stored agents and their versions, as clients of the agents protocol are told of them."""

from __future__ import annotations

from collections.abc import Iterable

from perdure.agents.stored.building import Missing
from perdure.agents.stored.config import FIELDS
from perdure.agents.stored.storage import StoredAgent, Version
from perdure.model.json import Json
from perdure.server.agents.shapes import iso


def agent_record(agent: StoredAgent, version: Version, unknown: Iterable[Missing] = ()) -> dict[str, Json]:
    """A stored agent with one of its versions. `unknown`: keys of it that lead to nothing, told as `warnings`."""
    shown: dict[str, Json] = {
        "id": agent.id,
        "status": agent.status,
        "activeVersionId": None if agent.active is None else agent.active.id,
        "authorId": agent.author_id,
        "visibility": agent.visibility,
        "createdAt": iso(agent.created_at),
        "updatedAt": iso(agent.updated_at),
        **config_fields(version),
        "resolvedVersionId": version.id,
    }
    if agent.metadata is not None:
        shown["metadata"] = agent.metadata
    warnings = [{"field": each.field, "key": each.key, "message": each.message} for each in unknown]
    return {**shown, "warnings": warnings} if warnings else shown


def version_record(version: Version) -> dict[str, Json]:
    """A version."""
    return {
        "id": version.id,
        "agentId": version.agent_id,
        "versionNumber": version.number,
        **config_fields(version),
        "changedFields": version.changed_fields,
        "changeMessage": version.message,
        "createdAt": iso(version.created_at),
    }


def config_fields(version: Version) -> dict[str, Json]:
    """A configuration; what is not set is left out, but for a description."""
    config = version.config
    kept = {field: config[field] for field in FIELDS if field in config}
    return {"name": version.agent_id, "description": None, **kept, "skillsFormat": None}


def compared(before: Version, after: Version, fields: Iterable[str]) -> dict[str, Json]:
    """What differs between two versions; the side that has no such field is left out."""
    diffs: list[dict[str, Json]] = []
    for field in fields:
        diff: dict[str, Json] = {"field": field}
        if field in before.config:
            diff["previousValue"] = before.config[field]
        if field in after.config:
            diff["currentValue"] = after.config[field]
        diffs.append(diff)
    told = {"fromVersion": version_record(before), "toVersion": version_record(after)}
    return {"diffs": diffs, "changes": diffs, **told}

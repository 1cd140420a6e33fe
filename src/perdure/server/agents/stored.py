"""Handlers of stored agents: listed, made, read, edited, forgotten, cloned, exported.

What a configuration names that the app has not is left out when the agent runs; answers tell of it as `warnings`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from perdure.agents.stored.building import Missing, Variant, build, missing
from perdure.agents.stored.config import resolved, slug_of
from perdure.agents.stored.registry import declared_of
from perdure.agents.stored.rules import variants_of
from perdure.agents.stored.storage import NoSuchAgentError, StoredAgent, StoredAgents, Version
from perdure.engine.agents.stored.versions import STORED_ORDERS, StoredOrder
from perdure.model.json import Json
from perdure.server.agents.callers import may_use
from perdure.server.agents.code_config import config_in_code
from perdure.server.agents.errors import InvalidRequest
from perdure.server.agents.registry import Agents
from perdure.server.agents.requests import body_of, page_of
from perdure.server.agents.stored_requests import (
    agent_id,
    config_of,
    message_of,
    metadata_of,
    order_of,
    record_of,
    status_of,
    text_of,
    visibility_of,
)
from perdure.server.agents.stored_shapes import agent_record
from perdure.server.envelope import ApiError, reply

_IN_CODE = ("instructions", "tools")
"""The fields that a configuration changes of an agent that is declared in code."""


class StoredHandlers:
    """Handlers over the stored agents of a node."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def page(self, request: Request) -> Response:
        """`GET /api/stored/agents`: those that are published, unless another status is asked for; newest first."""
        place, per_page = page_of(request, 100, least=0)
        field, descending = order_of(request, STORED_ORDERS)
        status = status_of(request) or "published"
        found = await self._storage.agents(
            status=status,
            author_id=request.query_params.get("authorId") or None,
            visibility=visibility_of(request),
            metadata=metadata_of(request),
            order_by=cast("StoredOrder", field),
            descending=descending,
            page=place,
            per_page=per_page,
        )
        mine = [each for each in found.items if may_use(request.scope, self._agents.stored.app_of(each.app_id))]
        shown = [agent_record(agent, _version(agent, status)) for agent in mine]
        counted = {"total": found.total, "page": place, "perPage": per_page, "hasMore": found.has_more}
        return reply({"agents": shown, **counted})

    async def create(self, request: Request) -> Response:
        """`POST /api/stored/agents`. One with the id of an agent that is declared in code is laid over it."""
        body = await body_of(request)
        config = config_of(body, whole=True)
        id = agent_id(body, "id", slug_of(config["name"]))
        in_code = self._in_code(id)
        if not in_code and "model" not in config:
            raise InvalidRequest("model", "Invalid input: expected object, received undefined")
        app_id = await self._app_for(id, config)
        await self._check(id, app_id, config)
        made = await self._storage.create(
            id,
            config,
            app_id=app_id,
            publish=body.get("autoPublish", True),
            author_id=body.get("authorId"),
            visibility=body.get("visibility", "public"),
            metadata=body.get("metadata"),
        )
        return await self._told(made, made.latest)

    async def get(self, request: Request) -> Response:
        """`GET /api/stored/agents/{stored}`: the version in force, or the newest one; that with `status=draft`."""
        status = status_of(request)
        agent = await self._one(request)
        return await self._told(agent, _version(agent, status))

    async def update(self, request: Request) -> Response:
        """`PATCH /api/stored/agents/{stored}`: a new version, if the configuration changes."""
        agent = await self._one(request)
        body = await body_of(request)
        config = config_of(body, whole=False)
        laid = {**agent.latest.config, **config}
        await self._check(agent.id, agent.app_id, {field: value for field, value in laid.items() if value is not None})
        edited = await self._storage.edit(
            agent.id,
            config or None,
            metadata=body.get("metadata", {}),
            author_id=body.get("authorId"),
            visibility=body.get("visibility"),
            status=body.get("status"),
            message=message_of(body),
            publish=body.get("autoPublish", False),
        )
        return await self._told(edited, edited.latest)

    async def delete(self, request: Request) -> Response:
        """`DELETE /api/stored/agents/{stored}`. Runs that have begun go on."""
        id = request.path_params["stored"]
        await self._storage.delete(id)
        return reply({"success": True, "message": f"Agent {id} deleted successfully"})

    async def dependents(self, request: Request) -> Response:
        """`GET /api/stored/agents/{stored}/dependents`: stored agents that may hand tasks to it."""
        agent = await self._one(request)
        page = await self._storage.agents(per_page=None, descending=False)
        found = [each for each in page.items if each.id != agent.id and agent.id in _keys_below(_version(each))]
        shown = [{"id": each.id, "name": _version(each).config.get("name") or each.id} for each in found]
        return reply({"dependents": shown, "hiddenCount": 0})

    async def export(self, request: Request) -> Response:
        """`POST /api/stored/agents/{stored}/export`: the configuration as a file, with the body's fields over it."""
        id = request.path_params["stored"]
        agent = await self._storage.find(id)
        code = self._agents.declared(id)
        if agent is None and code is None:
            raise NoSuchAgentError(f"Stored agent with id {id} not found")
        base = _version(agent).config if agent is not None else await config_in_code(code)
        laid = {**base, **config_of(await body_of(request), whole=False)}
        allowed = _IN_CODE if code is not None else tuple(laid)
        config = {field: laid[field] for field in sorted(allowed) if laid.get(field) is not None}
        content = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        file = f"{quote(id, safe='')}.json"
        return reply({"agentId": id, "fileName": file, "content": content, "config": config})

    async def clone(self, request: Request) -> Response:
        """`POST /api/agents/{agent}/clone`: a draft with the configuration of an agent of any kind."""
        served = self._agents.one(request.path_params["agent"])
        body = await body_of(request)
        id = agent_id(body, "newId", f"{served.id}-clone")
        chosen = served.selected.version if served.selected is not None else None
        code = self._agents.declared(served.id)
        config = dict(chosen.config) if chosen is not None and code is None else await config_in_code(served)
        config["name"] = text_of(body, "newName") or f"{served.name} (Clone)"
        made = await self._storage.create(
            id,
            config,
            app_id=served.app.id,
            publish=False,
            author_id=text_of(body, "authorId"),
            metadata=record_of(body, "metadata"),
        )
        return await self._told(made, made.latest)

    # What they have in common.

    @property
    def _storage(self) -> StoredAgents:
        return self._agents.stored.storage

    async def _one(self, request: Request) -> StoredAgent:
        id = request.path_params["stored"]
        found = await self._storage.find(id)
        if found is None:
            raise NoSuchAgentError(f"Stored agent with id {id} not found")
        return found

    def _in_code(self, id: str) -> bool:
        """Whether an agent of this id is declared. Raises `ApiError` for one that nothing can be laid over."""
        code = self._agents.declared(id)
        if code is not None and code.declared is None:
            raise ApiError(400, f"Agent with id {id} is of another make: its configuration is its code alone")
        return code is not None

    async def _app_for(self, id: str, config: Mapping[str, Json]) -> str:
        """The app that has most of what a configuration names; the first of equals."""
        code = self._agents.declared(id)
        if code is not None:
            return code.app.id
        counted = [(len(await self._unknown(app.id, config)), app.id) for app in self._agents.stored.apps]
        return min(counted, key=lambda each: each[0])[1]

    async def _unknown(self, app_id: str, config: Mapping[str, Json]) -> list[Missing]:
        held = resolved(config, {})
        stored = {key: True for key in held.get("agents") or {} if await self._storage.find(key) is not None}
        return list(missing(held, self._agents.stored.registry(app_id), stored))

    async def _check(self, id: str, app_id: str, config: Mapping[str, Json]) -> None:
        """Raises `ConfigError` and `InvalidOptionError` for what no agent can be made of."""
        for each in variants_of(config.get("memory")):
            if (each.get("options") or {}).get("semanticRecall") and not each.get("embedder"):
                raise ApiError(400, "Semantic recall requires both vector and embedder to be configured")
        registry = self._agents.stored.registry(app_id)
        code = self._agents.declared(id)
        declared = None if code is None else declared_of(code.given)
        build(id, Variant(None, resolved(config, {}), in_code=declared is not None), registry, declared)

    async def _told(self, agent: StoredAgent, version: Version) -> Response:
        return reply(agent_record(agent, version, await self._unknown(agent.app_id, version.config)))


def _version(agent: StoredAgent, status: str | None = None) -> Version:
    """The version that is shown of an agent."""
    return agent.latest if status == "draft" or agent.active is None else agent.active


def _keys_below(version: Version) -> set[str]:
    return {key for each in variants_of(version.config.get("agents")) for key in each}

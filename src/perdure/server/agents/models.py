"""Handlers of models: which ones answer for an agent, and which providers there are.

A choice is stored, and holds on every node until it is taken back; runs that have begun keep the models they began
with.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from perdure.agents.models.offers import known_models
from perdure.agents.models.providers import ALIASES, COMPATIBLE, KEYS
from perdure.agents.stored.storage import StoredAgents
from perdure.model.json import Json
from perdure.server.agents.errors import InvalidRequest
from perdure.server.agents.registry import Agents
from perdure.server.agents.requests import body_of, text
from perdure.server.agents.served import ServedAgent
from perdure.server.envelope import ApiError, reply

_MOST_RETRIES: Final = 20


class ModelHandlers:
    """Handlers over the models of the agents of a node."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def providers(self, request: Request) -> Response:
        """`GET /api/agents/providers`: those that models may be named of; `connected` where a key is set."""
        models = await asyncio.to_thread(known_models)
        return reply({"providers": [_provider(name, models.get(name, [])) for name in sorted({*KEYS, *COMPATIBLE})]})

    async def choose(self, request: Request) -> Response:
        """`POST /api/agents/{agent}/model`: one model instead of the agent's own."""
        served = self._agent(request)
        body = await body_of(request)
        name = _named(body)
        await self._storage.choose_model(served.id, {"model": name})
        return reply({"message": "Agent model updated"})

    async def reset(self, request: Request) -> Response:
        """`POST /api/agents/{agent}/model/reset`: the agent's own models again."""
        await self._storage.reset_model(self._agent(request).id)
        return reply({"message": "Agent model reset to original"})

    async def reorder(self, request: Request) -> Response:
        """`POST /api/agents/{agent}/models/reorder`: in which order the models of a list are asked."""
        served, ids = self._listed(request)
        order = (await body_of(request)).get("reorderedModelIds")
        if not isinstance(order, list) or not all(isinstance(id, str) for id in order):
            raise InvalidRequest("reorderedModelIds", "Invalid input: expected array of strings")
        for id in order:
            _check_listed(id, ids)
        await self._storage.choose_model(served.id, {**await self._choice(served), "order": order})
        return reply({"message": "Model list reordered"})

    async def change(self, request: Request) -> Response:
        """`POST /api/agents/{agent}/models/{config}`: one entry of a list: its model, retries, whether it is asked."""
        served, ids = self._listed(request)
        id = request.path_params["config"]
        _check_listed(id, ids)
        body = await body_of(request)
        choice = await self._choice(served)
        entries: dict[str, Json] = dict(choice.get("entries") or {})
        entries[id] = {**entries.get(id, {}), **_entry(body)}
        await self._storage.choose_model(served.id, {**choice, "entries": entries})
        return reply({"message": "Model updated in model list"})

    @property
    def _storage(self) -> StoredAgents:
        return self._agents.stored.storage

    async def _choice(self, served: ServedAgent) -> dict[str, Json]:
        """What was chosen for a list before; one model instead of it is taken back."""
        known = await self._storage.model(served.id) or {}
        return {key: value for key, value in known.items() if key != "model"}

    def _agent(self, request: Request) -> ServedAgent:
        served = self._agents.one(request.path_params["agent"])
        if served.declared is None:
            raise ApiError(400, f"Agent with id {served.id} is of another make: its model is its code alone")
        return served

    def _listed(self, request: Request) -> tuple[ServedAgent, list[str]]:
        """An agent with a list of models, and their ids, as its code or its version has them."""
        served = self._agent(request)
        code = self._agents.declared(served.id) or served
        found = code.declared or served.declared
        assert found is not None
        ids = [entry.id for entry in found.models.entries]
        if len(ids) < 2:
            raise ApiError(400, "Agent model list is not found or empty")
        return served, ids


def _named(given: dict[str, Json]) -> str:
    provider, name = text(given, "provider"), text(given, "modelId")
    for field, value in (("provider", provider), ("modelId", name)):
        if not value:
            raise InvalidRequest(field, "Too small: expected string to have >=1 characters")
    return name if name.startswith(f"{provider}/") else f"{provider}/{name}"


def _entry(body: dict[str, Json]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    if body.get("model") is not None:
        if not isinstance(body["model"], dict):
            raise InvalidRequest("model", "Invalid input: expected object")
        found["model"] = _named(body["model"])
    retries, enabled = body.get("maxRetries"), body.get("enabled")
    if retries is not None:
        if type(retries) is not int or not 0 <= retries <= _MOST_RETRIES:
            raise InvalidRequest("maxRetries", f"must be a whole number from 0 to {_MOST_RETRIES}")
        found["maxRetries"] = retries
    if enabled is not None:
        if not isinstance(enabled, bool):
            raise InvalidRequest("enabled", "Invalid input: expected boolean")
        found["enabled"] = enabled
    return found


def _check_listed(id: str, ids: list[str]) -> None:
    if id not in ids:
        raise ApiError(404, f"Model with id {id} is not in the list; there are {', '.join(ids)}")


def _provider(name: str, models: list[str]) -> dict[str, Json]:
    compatible = COMPATIBLE.get(name)
    variables = list(compatible.keys if compatible is not None else KEYS[name])
    shown = name.replace("-", " ").title()
    known_as = sorted(other for other, real in ALIASES.items() if real == name)
    return {
        "id": name,
        "name": shown,
        "label": shown,
        "description": f"Also known as {', '.join(known_as)}" if known_as else "",
        "envVar": variables[0] if len(variables) == 1 else variables,
        "connected": not variables or any(os.environ.get(each) for each in variables),
        "models": models,
    }

"""Stored agents: agents whose configuration is data, edited while they run.

`storage.py` keeps them and their versions; `config.py` says what a configuration is, and `rules.py` what of it holds
for a request. `registry.py` knows the parts of an app that a configuration may name, `building.py` makes an agent of
both, and `variants.py` lets a durable run keep the one that it began with.
"""

from __future__ import annotations

from perdure.agents.stored.registry import Registry
from perdure.agents.stored.storage import StoredAgent, StoredAgents, Version, stored_agents_of
from perdure.agents.stored.variants import serve_stored_agents

__all__ = ["Registry", "StoredAgent", "StoredAgents", "Version", "serve_stored_agents", "stored_agents_of"]

"""Agents over HTTP, as clients of the agents protocol speak to them: `/api/agents` and `/api/memory`.

The room translates: requests into calls of agents (`requests.py`), and what runs say into the protocol's shapes, one
module a shape. Invariants: nothing runs here; a mistake of the caller is a 4xx with `{"error": "..."}`.
"""

from __future__ import annotations

from perdure.server.agents.app import make_agents_app

__all__ = ["make_agents_app"]

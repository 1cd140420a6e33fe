"""How the functions of agents, and the events that begin their runs, are called."""

from __future__ import annotations

import re
from typing import Final

from perdure.model.errors import ConfigError

TASKS: Final = "tasks"
"""The owner of the runs that carry out background tasks; no agent may have this id beside them."""
SUB_AGENTS: Final = "sub-agents"
"""The owner of the runs that carry out sub-agents; no agent may have this id beside them."""
STORED: Final = "stored-agents"
"""Whose function carries out the agents that are data; no agent may have this id beside them."""
_OTHER: Final = re.compile(r"[^A-Za-z0-9]+")


def slug_of(agent_id: str) -> str:
    """The id of an agent's function. Raises `ConfigError`.

    >>> slug_of("support desk")
    'agent-support-desk'
    """
    words = _OTHER.sub("-", agent_id).strip("-")
    if not words:
        raise ConfigError(f"agent {agent_id!r}", ["id: must have letters or digits"])
    return f"agent-{words}"


def trigger_of(agent_id: str) -> str:
    """The name of the event that begins a run of an agent on a server."""
    return f"perdure/{slug_of(agent_id)}.run"

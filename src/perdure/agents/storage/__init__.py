"""What agents remember: `AgentStorage`, the asynchronous face of the agents' tables, over a node's store or its own."""

from __future__ import annotations

from perdure.agents.storage.all import AgentStorage
from perdure.agents.storage.opening import open_storage, storage_of
from perdure.agents.storage.shapes import (
    AgentRun,
    Approval,
    Clone,
    Include,
    Match,
    Page,
    Queued,
    Resource,
    Task,
    Thread,
)
from perdure.agents.storage.wakeups import Watch

__all__ = [
    "AgentRun",
    "AgentStorage",
    "Approval",
    "Clone",
    "Include",
    "Match",
    "Page",
    "Queued",
    "Resource",
    "Task",
    "Thread",
    "Watch",
    "open_storage",
    "storage_of",
]

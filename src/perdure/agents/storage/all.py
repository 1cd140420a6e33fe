"""All parts of the storage in one."""

from __future__ import annotations

from perdure.agents.storage.conversations import Conversations
from perdure.agents.storage.runs import Runs
from perdure.agents.storage.tasks import Tasks


class AgentStorage(Conversations, Runs, Tasks):
    """Threads, messages, runs, approvals, signals and tasks of agents.

    `store` is one that is open: that of a node, or one of an app's own (see `open_storage`). `now` gives the time in
    ms and `ids` new unique ids. Every method may raise `StoreError`; what a method changed is committed when it
    returns.
    """

"""The nodes of a database as an operator looks at them: who lives, who drives what, and what waits for them.

All times are as they are in the rows (ms since the epoch), to be seen beside the present of whoever asks.
"""

from __future__ import annotations

import msgspec

from perdure.engine import reads
from perdure.engine.flow import DEFECT
from perdure.engine.turn import Decision, Read
from perdure.model.records import JobState

MOST_QUEUES = 200
"""Of so many functions the queues are told, those first in which most waits."""


class NodeState(msgspec.Struct, frozen=True):
    """A node, until when it is known to be alive, and how many runs it drives."""

    id: str
    alive_until: int
    leases: int


class Queue(msgspec.Struct):
    """What a function has to do besides what sleeps and waits: its runs by state of their drivers, and since when the
    oldest that is ready could have been driven."""

    function_id: str
    ready: int = 0
    leased: int = 0
    blocked: int = 0
    oldest_ready: int | None = None


class Cluster(msgspec.Struct):
    """`next_due`: when the next of what is scheduled is due, which is past if it is late. `left`: leases of nodes that
    have no row any more. `set_aside`: jobs that could not be used, which wait for somebody to look at them."""

    nodes: list[NodeState] = []
    queues: list[Queue] = []
    next_due: int | None = None
    left: int = 0
    set_aside: list[str] = []

    def lag(self, now: int) -> int:
        """By how much the latest of what is due is late, or what is ready has waited (ms); 0 if nothing is."""
        waiting = [queue.oldest_ready for queue in self.queues]
        return max([0, *(now - at for at in (self.next_due, *waiting) if at is not None)])

    def abandoned(self, now: int) -> int:
        """Leases that nobody alive has: somebody alive takes them over soon."""
        return self.left + sum(node.leases for node in self.nodes if node.alive_until <= now)


def cluster(limit: int = 20) -> Decision[Cluster]:
    """How the nodes stand; `limit` bounds what is told one by one."""
    leases: dict[str, int] = {row[0]: row[1] for row in (yield Read("leases_by_node", ()))}
    nodes = [NodeState(row[0], row[1], leases.pop(row[0], 0)) for row in (yield Read("nodes", (1000,)))]
    queues: dict[str, Queue] = {}
    for function_id, state, count, oldest in (yield Read("queued_by_function", ())):
        queue = queues.setdefault(function_id, Queue(function_id))
        if state == JobState.READY:
            queue.ready, queue.oldest_ready = count, oldest
        elif state == JobState.LEASED:
            queue.leased = count
        else:
            queue.blocked = count
    most = sorted(queues.values(), key=lambda each: (-each.ready, -each.blocked, -each.leased, each.function_id))
    due = yield Read("next_due", ())
    set_aside = yield from reads.blocked_jobs(DEFECT, limit)
    return Cluster(nodes, most[:MOST_QUEUES], due[0][0] if due else None, sum(leases.values()), set_aside)

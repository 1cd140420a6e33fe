"""What is kept of a run that was ended from outside: its input, and as much of the answer as its readers had heard.

Invariant: keeping it again changes nothing, and what the run itself has kept stays as it kept it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from perdure.agents.chunks import Chunk
from perdure.agents.declared import DeclaredAgent
from perdure.agents.fold import Fold
from perdure.agents.messages import Message
from perdure.agents.recollection import recollection_of
from perdure.agents.state import RunInput

_ENDS = frozenset({"step-rollback", "abort", "finish"})


async def keep_partial(agent: DeclaredAgent, request: RunInput, said: Sequence[Chunk], now: int) -> None:
    """Keeps what an aborted run has come to in its thread, where it has one; `said` is all that it has said."""
    memory = recollection_of(agent, request)
    if memory is None or request.network:
        return
    messages = partial_messages(request, said, now)
    # The first step keeps the input as processors have changed it; before its end, only they know how.
    known = agent.input_pipeline.has("process_input")
    await memory.save(messages if known else [*request.read(), *messages])


def partial_messages(request: RunInput, said: Sequence[Chunk], now: int) -> list[Message]:
    """What a run had said, as messages of its thread."""
    fold = Fold()
    for item in _heard(said):
        fold.take(item)
    return [
        msgspec.structs.replace(message, created_at=now, thread_id=request.thread_id, resource_id=request.resource_id)
        for message in fold.messages(request.run_id)
    ]


def _heard(said: Sequence[Chunk]) -> Sequence[Chunk]:
    """All but the end: that the step in which a run was cut off was taken back does not count."""
    end = len(said)
    while end and said[end - 1].type in _ENDS:
        end -= 1
    return said[:end]

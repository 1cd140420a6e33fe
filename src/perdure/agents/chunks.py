"""Chunks: what a run of an agent says, piece by piece, in the shape that clients of the agents protocol read.

A chunk is a JSON object `{type, runId, from, payload}`. Some kinds carry their content beside the payload (`object`,
`data-*`), so a `Chunk` is the object itself, with its place in the run's stream log beside it.

Invariants: `index` grows over the whole life of a run, suspensions and restarts included, and is not part of the
object; a chunk that has been said is never changed.
"""

from __future__ import annotations

from typing import Final

from perdure.model.json import Json

AGENT: Final = "AGENT"
USER: Final = "USER"
NETWORK: Final = "NETWORK"
WORKFLOW: Final = "WORKFLOW"

TERMINAL: Final = frozenset({"finish", "error", "abort", "suspended"})
"""The kinds after which a reader hears no more of this segment of the run."""


class Chunk(dict[str, Json]):
    """One piece of an agent's stream: a dict, and its place in the log (-1 for one that is in no log yet).

    `step` is the hash of the step that said it: what is taken back is taken back by step.

    >>> said = chunk("text-delta", "run-1", id="t0", text="Hel")
    >>> said.type, said.payload["text"], said["from"], said.index
    ('text-delta', 'Hel', 'AGENT', -1)
    """

    __slots__ = ("index", "step")

    def __init__(self, content: dict[str, Json], index: int = -1, step: str | None = None) -> None:
        super().__init__(content)
        self.index = index
        self.step = step

    @property
    def type(self) -> str:
        """The kind, as `text-delta`."""
        kind: str = self["type"]
        return kind

    @property
    def run_id(self) -> str | None:
        """The run that said it."""
        run_id: str | None = self.get("runId")
        return run_id

    @property
    def payload(self) -> dict[str, Json]:
        """The content; empty for kinds that carry it elsewhere."""
        payload: dict[str, Json] = self.get("payload") or {}
        return payload


def forwarded(said: Chunk, run_id: str, tool_call_id: str, tool_name: str) -> Chunk:
    """A chunk of a child run, as the stream of its parent tells it: as output of the call that has begun the child."""
    payload = {"output": dict(said), "toolCallId": tool_call_id, "toolName": tool_name}
    return Chunk({"type": "tool-output", "runId": run_id, "from": USER, "payload": payload})


def chunk(type_: str, run_id: str, /, source: str = AGENT, **payload: Json) -> Chunk:
    """A chunk whose payload has these keys; those that are None are left out."""
    said = {key: value for key, value in payload.items() if value is not None}
    return Chunk({"type": type_, "runId": run_id, "from": source, "payload": said})

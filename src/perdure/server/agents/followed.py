"""What those who follow a thread are told: the chunks of all its runs, each run's as a client of it would hear them.

Followers are told less of each chunk, for a conversation may be long, and nothing of a run after `abort`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from perdure.agents.chunks import Chunk
from perdure.model.json import Json
from perdure.server.agents.frames import Frames
from perdure.server.agents.registry import ServedAgent
from perdure.server.agents.transcript import Transcript

PERSISTED: Final = "persisted-signal:"
"""How the ids begin under which signals are told that no run takes in."""
_LEFT_OUT: Final = {"step-start": ("inputMessages",), "step-finish": ("messages",), "finish": ("messages",)}


class Followed:
    """Translates what is heard in one thread. `served` finds an agent by its id, None where there is none."""

    def __init__(self, served: Callable[[str], ServedAgent | None], thread_id: str, resource_id: str | None) -> None:
        self._served = served
        self._thread_id, self._resource_id = thread_id, resource_id
        self._told: dict[str, Frames] = {}
        self._aborted: set[str] = set()

    def of(self, said: Chunk) -> list[dict[str, Json]]:
        """What is told of a chunk."""
        run_id: str = said.get("runId") or ""
        if said.type == "abort":
            self._told.pop(run_id, None)
            self._aborted.add(run_id)
            return [{"type": "abort", "runId": run_id}]
        if run_id in self._aborted:
            return []
        if run_id.startswith(PERSISTED):
            # There is no run: a signal was kept, and that is all.
            return [said]
        frames = self._told.get(run_id)
        if frames is None:
            frames = self._told[run_id] = self._frames(run_id, said)
        shown = list(map(_trimmed, frames.of(said)))
        if said.type == "finish" and not said.payload.get("backgroundTaskPending"):
            del self._told[run_id]
        return shown

    def _frames(self, run_id: str, said: Chunk) -> Frames:
        served = self._served(said.payload.get("id") or "") if said.type == "start" else None
        declared = None if served is None else served.declared
        provider = "" if declared is None else declared.models.provider
        transcript = Transcript(
            run_id,
            thread_id=self._thread_id,
            resource_id=self._resource_id,
            provider=provider,
            remembers=served is None or served.memory is not None,
        )
        return Frames(transcript, durable=served is not None and served.durable, followed=True)


def _trimmed(shown: dict[str, Json]) -> dict[str, Json]:
    left_out = _LEFT_OUT.get(shown["type"])
    if left_out is None:
        return shown
    payload = {key: value for key, value in shown["payload"].items() if key not in left_out}
    if "output" in payload:
        payload["output"] = {key: value for key, value in payload["output"].items() if key != "steps"}
    return {**shown, "payload": payload}

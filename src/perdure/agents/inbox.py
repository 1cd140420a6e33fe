"""The inbox of a run over the storage of agents: signals become messages for the model and chunks for readers."""

from __future__ import annotations

from perdure.agents.ports import Arrived
from perdure.agents.signals.signal import parse_signal, signal_chunk, signal_message
from perdure.agents.state import RunInput
from perdure.agents.storage import AgentStorage
from perdure.model.json import Json


class RunInbox:
    """What is sent to one run. See `ports.Inbox`."""

    def __init__(self, storage: AgentStorage, request: RunInput) -> None:
        self._storage = storage
        self._request = request

    async def claim(self, step_id: str) -> list[Arrived]:
        """Takes in what is queued."""
        return self._arrived(await self._storage.claim_signals(self._request.run_id, step_id))

    async def close(self, step_id: str) -> list[Arrived]:
        """Closes the inbox if it is empty; otherwise takes in what is queued."""
        return self._arrived(await self._storage.close_inbox(self._request.run_id, step_id))

    def _arrived(self, bodies: list[dict[str, Json]]) -> list[Arrived]:
        request = self._request
        found = []
        for body in bodies:
            # What is queued has its id and times already: the run's are only for bodies of another version.
            signal = parse_signal(body, ids=lambda: f"{request.run_id}-signal", now=request.started_at)
            message = signal_message(signal, request.thread_id, request.resource_id)
            found.append(Arrived(message, signal_chunk(signal, request.run_id), signal.transient))
        return found

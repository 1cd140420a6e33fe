"""Waits of pydantic-ai for the outside (`wait_for_external_event`, `RequestInput`), as waits of the perdure run.

A token is drawn once and recorded; then the run waits for an event that names it, and only then is it handed out, so no
answer comes too early. Whoever has the token answers by sending an event, from anywhere:

    await app.send(resolved_event(token, {"approvals": {"c1": True}}))

Invariants: `ask` is called once, in a step; a replay gives what was recorded; the run is parked while it waits.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from pydantic import JsonValue
from pydantic_ai.external_events import ExternalEventError, ExternalEventWaiter

from perdure.agents.pydantic_ai.driving import Driving
from perdure.model.json import Json, encode
from perdure.sdk.step import step

REQUESTED_EVENT: Final = "perdure/external.requested"
RESOLVED_EVENT: Final = "perdure/external.resolved"
_YEAR: Final = timedelta(days=365)


class EventWaiter(ExternalEventWaiter):
    """Waits through the steps of a function."""

    def __init__(self, run: Driving) -> None:
        self._run = run

    async def wait(
        self, name: str, *, ask: Callable[[str], Awaitable[JsonValue]], timeout: timedelta | None
    ) -> JsonValue:
        """See `ExternalEventWaiter`. Raises `ExternalEventError`."""
        place, _ = self._run.step_id(f"external:{name}")
        token: str = await step.run(f"{place}/token", _new_token)
        waiting = asyncio.ensure_future(
            step.wait_for_event(
                place,
                event=RESOLVED_EVENT,
                timeout=min(timeout or _YEAR, _YEAR),
                if_=f"async.data.token == {encode(token).decode()}",
            )
        )
        try:
            # Reported together, and so recorded together: when this has been sent, the run waits.
            told = {"runId": self._run.recorder.run_id, "name": name}
            await step.send_event(f"{place}/asked", {"name": REQUESTED_EVENT, "data": told})
            answer: Json = await step.run(f"{place}/ask", _asked, ask, token)
            if answer is not None:
                return _json(answer)
            event = await waiting
        finally:
            waiting.cancel()
        if event is None:
            raise ExternalEventError(f"No resolution arrived within {timeout}.")
        if "error" in event.data:
            raise ExternalEventError(str(event.data["error"]))
        return _json(event.data.get("payload"))


def resolved_event(token: str, payload: Json) -> dict[str, Json]:
    """The event that answers a wait.

    >>> resolved_event("t1", {"ok": True})["data"]
    {'token': 't1', 'payload': {'ok': True}}
    """
    return {"name": RESOLVED_EVENT, "data": {"token": token, "payload": payload}}


def failed_event(token: str, reason: str) -> dict[str, Json]:
    """The event that ends a wait without an answer: it raises `ExternalEventError`."""
    return {"name": RESOLVED_EVENT, "data": {"token": token, "error": reason}}


def _new_token() -> str:
    return secrets.token_urlsafe(24)


async def _asked(ask: Callable[[str], Awaitable[JsonValue]], token: str) -> Json:
    return await ask(token)


def _json(value: Json) -> JsonValue:
    plain: JsonValue = value
    return plain

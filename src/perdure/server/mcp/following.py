"""Runs that tools start and follow: where they stand, and waiting until they end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from perdure.model.json import Json
from perdure.server.catalogue import schemas as s
from perdure.server.mcp.asking import Ask, parsed, read, told
from perdure.server.mcp.offering import Caller, NoResourceError, ToolError

ENDED = frozenset(s.ENDED_STATUSES)


async def start(ask: Ask, slug: str, body: dict[str, Json]) -> tuple[str, str | None]:
    """Starts a function; the id of its event, and that of its run, None while flow control holds it back."""
    status, answer = await ask("POST", f"/invoke/{slug}", {}, body)
    if status >= 400:
        raise ToolError(f"{told(status, answer)} (list_functions shows the slugs of functions)")
    event_id: str = parsed(answer)["id"]
    runs = (await read(ask, f"/v2/events/{event_id}/runs"))["data"]
    return event_id, runs[0]["id"] if runs else None


async def state(ask: Ask, run_id: str) -> dict[str, Json]:
    """Where a run stands, with its output. Raises `ToolError`."""
    try:
        run = (await read(ask, f"/v2/runs/{run_id}", {"includeOutput": True}))["data"]
    except NoResourceError as error:
        raise ToolError(f"There is no run {run_id}: {error}") from error
    shown = {"runId": run_id, "status": run["status"], "functionName": run["function"]["name"]}
    return shown | {key: run[key] for key in ("output", "endedAt") if key in run}


async def until_ended(
    ask: Ask,
    run_ids: Sequence[str],
    timeout: float,
    interval: float,
    caller: Caller,
    look: Callable[[str], Awaitable[None]] | None = None,
) -> list[dict[str, Json]]:
    """Where runs stand when all of them have ended, or the time (s) is over. The caller hears how time passes.

    `look` is shown each run that has not ended, and may raise.
    """
    deadline = asyncio.get_running_loop().time() + timeout
    pause = min(interval, 0.02)
    before = ""
    while True:
        states = [await state(ask, run_id) for run_id in run_ids]
        open_ones = [each["runId"] for each in states if each["status"] not in ENDED]
        now = ", ".join(f"{each['runId']} is {each['status']}" for each in states)
        if now != before:
            await caller.log("info", now)
        before = now
        for run_id in open_ones:
            if look is not None:
                await look(run_id)
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0 or not open_ones:
            return states
        await caller.report(timeout - left, timeout, ", ".join(each["status"] for each in states))
        await asyncio.sleep(min(pause, left))
        pause = min(interval, pause * 2)

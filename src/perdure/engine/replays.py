"""Replays: the ended runs of a function, of some statuses and a span of time, are done once more.

A replay is a row that moves on, a page of runs a transaction, together with the runs that the page starts: after a
crash, or asked for again under the same id, it goes on where it stood and does nothing twice. Runs that come after
its beginning, its own included, lie beyond its bound.
"""

from __future__ import annotations

import msgspec

from perdure.engine import views
from perdure.engine.mutations import PutReplay
from perdure.engine.operate import rerun
from perdure.engine.schedule import Refused
from perdure.engine.turn import Decision, Read, Turn
from perdure.engine.views import Span
from perdure.model.json import decode, encode
from perdure.model.records import Replay, RunStatus

REPLAYABLE = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.SKIPPED)
"""The statuses of runs that have ended."""
_LATER = ("function_paused", "unregistered")
"""Refusals that concern no single run: the replay waits until it is asked for again."""


class Choice(msgspec.Struct, frozen=True):
    """Which runs a replay chooses: statuses, and when they were queued (ms, both ends included, None is open)."""

    statuses: list[int] = msgspec.field(default_factory=lambda: [int(RunStatus.FAILED)])
    queued_from: int | None = None
    queued_until: int | None = None


def begin(turn: Turn, replay_id: str, function_id: str, choice: Choice) -> Decision[Replay | Refused]:
    """Begins a replay, or finds the one that has this id."""
    statuses = encode(sorted(set(choice.statuses))).decode()
    known = yield from find(replay_id)
    if known is not None:
        wanted = (function_id, statuses, choice.queued_from, choice.queued_until)
        if (known.function_id, known.statuses, known.queued_from, known.queued_until) != wanted:
            return Refused("replay_mismatch", f"replay {replay_id} was ordered with another choice of runs")
        return known
    replay = Replay(
        replay_id, function_id, statuses, choice.queued_from, choice.queued_until, turn.ids(), "", 0, 0, turn.now, None
    )
    yield _put(replay)
    return replay


def advance(turn: Turn, replay_id: str, *, limit: int = 50) -> Decision[Replay | Refused]:
    """Does one page of a replay; its `ended_at` says whether there are more."""
    replay = yield from find(replay_id)
    if replay is None:
        return Refused("unknown", f"there is no replay {replay_id}")
    if replay.ended_at is not None:
        return replay
    runs = yield from views.list_runs(
        limit,
        replay.cursor,
        statuses=[RunStatus(status) for status in decode(replay.statuses)],
        function_ids=[replay.function_id],
        span=Span(replay.queued_from, replay.queued_until),
        oldest_first=True,
    )
    for run in runs:
        if run.id > replay.bound:
            break
        outcome = yield from rerun(turn, run.id)
        if isinstance(outcome, Refused) and outcome.reason in _LATER:
            yield _put(replay)
            return outcome
        if isinstance(outcome, str):
            replay.started += 1
        else:
            replay.skipped += 1
        replay.cursor = run.id
    if len(runs) < limit or runs[-1].id > replay.bound:
        replay.ended_at = turn.now
    yield _put(replay)
    return replay


def find(replay_id: str) -> Decision[Replay | None]:
    """A replay by its id."""
    rows = yield Read("replay_by_id", (replay_id,))
    return Replay(*rows[0]) if rows else None


def _put(replay: Replay) -> PutReplay:
    return PutReplay(*msgspec.structs.astuple(replay))

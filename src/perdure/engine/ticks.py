"""Cron ticks: one job per function and cron text, always holding the next tick.

Firing a tick moves the job to the next one in the same transaction, so no tick fires twice, across restarts and
re-registrations too. Ticks missed while nothing ran are handled by the trigger's policy.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from perdure.engine import reads
from perdure.engine.catalogue import CompiledFunction, CronTrigger
from perdure.engine.flow import timer
from perdure.engine.mutations import DeleteJob, PutEvent, PutJob
from perdure.engine.schedule import consider
from perdure.engine.turn import Decision, Turn
from perdure.model.event import SCHEDULED_TIMER, Event, StoredEvent
from perdure.model.json import encode
from perdure.model.limits import MINUTE
from perdure.model.records import Job

MAX_CATCH_UP = 100
GRACE = MINUTE
"""How late a tick may start under the policy "skip"."""


class Tick(msgspec.Struct):
    """The tick that a cron job holds (its due time may be later, by jitter), and when the schedule began."""

    at: int
    anchor: int


_tick = msgspec.json.Decoder(Tick).decode


def rfc3339(millis: int) -> str:
    """A time as the protocol writes it, e.g. "2026-11-22T07:34:00Z"."""
    moment = datetime.fromtimestamp(millis // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    rest = millis % 1000
    return f"{moment}.{rest:03d}Z" if rest else f"{moment}Z"


def cron_job_id(function_id: str, text: str) -> str:
    return f"cron:{function_id}:{text}"


def first_tick(turn: Turn, function: CompiledFunction, trigger: CronTrigger) -> PutJob:
    """The job of a newly registered cron trigger."""
    return _job(turn, function, trigger, turn.now, turn.now)


def _job(turn: Turn, function: CompiledFunction, trigger: CronTrigger, after: int, anchor: int) -> PutJob:
    at = trigger.spec.next(after, anchor)
    due_at = at + int(turn.chance() * trigger.jitter)
    job_id = cron_job_id(function.id, trigger.spec.text)
    return timer(job_id, "cron", turn, None, function.id, due_at, msgspec.json.encode(Tick(at, anchor)))


def fire_cron(turn: Turn, job: Job) -> Decision[None]:
    """Starts the runs of a due tick, and of those missed since, by policy; schedules the next."""
    function = turn.catalogue.get(job.function_id or "")
    triggers = function.crons if function else []
    trigger = next((item for item in triggers if cron_job_id(job.function_id or "", item.spec.text) == job.id), None)
    if function is None or trigger is None or job.data is None:
        yield DeleteJob(job.id)
        return
    tick = _tick(job.data)
    # Ticks younger than the jitter are not missed: each comes by a job of its own, after a delay of its own.
    until = max(tick.at, turn.now - trigger.jitter)
    yield _job(turn, function, trigger, until, tick.anchor)
    if function.paused:
        return
    ticks = [tick.at, *trigger.spec.missed(tick.at, until, MAX_CATCH_UP, tick.anchor)]
    for at in _chosen(ticks, trigger, turn.now):
        data = {"cron": trigger.spec.text, "scheduledAt": rfc3339(at), "fireAt": rfc3339(turn.now)}
        stored = StoredEvent(turn.ids(), Event(SCHEDULED_TIMER, data, rfc3339(at), turn.now), turn.now, internal=True)
        body = encode(stored.event.to_json())
        yield PutEvent(stored.internal_id, stored.event.name, turn.now, 1, body)
        yield from consider(turn, function, stored, cron=trigger.spec.text)


def _chosen(ticks: list[int], trigger: CronTrigger, now: int) -> list[int]:
    if trigger.missed == "all":
        return ticks[-MAX_CATCH_UP:]
    if trigger.missed == "skip":
        return [at for at in ticks[-1:] if now - at <= GRACE + trigger.jitter]
    return ticks[-1:]


def stale_cron_jobs(function: CompiledFunction) -> Decision[list[str]]:
    """The cron jobs of a function whose trigger is no longer registered."""
    current = {cron_job_id(function.id, trigger.spec.text) for trigger in function.crons}
    jobs = yield from reads.cron_jobs(function.id)
    return [job.id for job in jobs if job.id not in current]

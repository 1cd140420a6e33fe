"""Runs that begin with a request which an app is answering: they are leased at once, and no flow control holds them.

The run's id is the app's, so a report that is repeated begins nothing twice. Functions of such requests come into
force with the first of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from perdure.engine import reads
from perdure.engine.advance import record
from perdure.engine.catalogue import CompiledFunction, compile_function
from perdure.engine.mutations import PutEvent, PutSecret, put_app, put_function, put_job, put_run
from perdure.engine.turn import Decision, Start, Turn
from perdure.engine.waits import NULL
from perdure.model.config import FunctionConfig, encode_config
from perdure.model.event import StoredEvent
from perdure.model.ids import ulid_millis
from perdure.model.json import encode
from perdure.model.ops import Op
from perdure.model.records import AppRow, FunctionRow, Job, JobState, Run, RunStatus, Step, StepStatus


def register(turn: Turn, row: AppRow, config: FunctionConfig) -> Decision[CompiledFunction]:
    """Puts the function of a request in force, beside the others of its app."""
    known = {each.id: each for each in (yield from reads.functions())}.get(config.id)
    stored = encode_config(config)
    if known is None or known.config != stored or known.archived_at is not None:
        version = known.version + 1 if known else 1
        created_at = known.created_at if known else turn.now
        paused_at = known.paused_at if known else None
        known = FunctionRow(config.id, config.app_id, config.name, version, stored, created_at, None, paused_at)
        yield put_function(known)
    if (yield from reads.app_by_id(row.id)) is None:
        yield put_app(row)
    return compile_function(config, known.version, known.paused_at is not None)


def begin(
    turn: Turn, run_id: str, function: CompiledFunction, stored: StoredEvent, done: Sequence[Op] = ()
) -> Decision[bool]:
    """Begins a run that its app executes already, with the steps that it has `done`; False when there is a run with
    that id."""
    if (yield from reads.run_by_id(run_id)) is not None:
        return False
    body = encode(stored.event.to_json())
    yield PutEvent(stored.internal_id, stored.event.name, stored.received_at, int(stored.internal), body)
    lease = turn.offer.take(run_id, function.id)
    created_at = min(ulid_millis(run_id), turn.now)
    run = Run(
        run_id, function.id, function.version, function.app_id, stored.internal_id, None, None, None, None,
        RunStatus.RUNNING, created_at, turn.now, None, None,
    )  # fmt: skip
    yield put_run(run)
    yield put_job(
        Job(
            run_id, "run", JobState.LEASED, run_id, function.id, turn.now, turn.now, lease.node, lease.token,
            0, 0, None, None, None,
        )
    )  # fmt: skip
    for seq, op in enumerate(done, 1):
        yield from record(lease, run_id, seq, op)
    steps = [_step(run_id, seq, op) for seq, op in enumerate(done, 1)]
    turn.effects.append(Start(run_id, function.id, lease, 0, run, [stored.event], steps, plain=function.plain))
    return True


def _step(run_id: str, seq: int, op: Op) -> Step:
    return Step(
        run_id, op.id, op.op, op.name, StepStatus.DONE, seq, op.attempt, op.started_at, op.started_at, op.ended_at,
        op.data or NULL, encode(op.opts) if op.opts else None,
    )  # fmt: skip


def installation_secret(turn: Turn, name: str, fresh: bytes) -> Decision[bytes]:
    """The secret of the installation under a name; `fresh` becomes it where there is none yet."""
    known = yield from reads.secret(name)
    if known is not None:
        return known
    yield PutSecret(name, fresh)
    return fresh

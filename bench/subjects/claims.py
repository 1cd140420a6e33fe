"""What a claim costs when many runs sleep, on PostgreSQL: the same load before and after rows of sleepers are there.

A node that executes few runs at once claims all others. Sleepers are put into the tables by SQL, each a run with its
driver and the timer that wakes it in a month, and then the two are measured in turns.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import asyncpg

from bench import load, loops, postgres
from bench.subject import Measured, Task, serve
from bench.subjects.perdure import app, trigger_of
from perdure import embedded

_ACTIVE = 50
_FLIGHT = 500
_ROUNDS = 5

_SLEEPERS = """
WITH sleeper AS (SELECT to_char(n, '"01ZZZZZZZZZZZZZZ"FM0000000000') AS id FROM generate_series(1, $1::bigint) AS n),
runs AS (
  INSERT INTO perdure.run (id, function_id, function_version, app_id, event_id, status, created_at, started_at)
  SELECT id, 'bench-sleeper', 1, 'bench', id, 1, 0, 0 FROM sleeper
), drivers AS (
  INSERT INTO perdure.job (id, kind, state, run_id, function_id, due_at, rank, token, attempt, woken)
  SELECT id, 'run', 4, id, 'bench-sleeper', 0, 0, 0, 0, 0 FROM sleeper
)
INSERT INTO perdure.job (id, kind, state, run_id, function_id, due_at, rank, token, attempt, woken)
SELECT id || '.nap', 'sleep', 0, id, 'bench-sleeper', perdure.now_1() + 2592000000 + length(id), 0, 0, 0, 0 FROM sleeper
"""
_AWAY = "DELETE FROM perdure.run WHERE function_id = 'bench-sleeper'"
_JOBS_AWAY = "DELETE FROM perdure.job WHERE function_id = 'bench-sleeper'"


async def _measure(task: Task) -> Measured:
    with postgres.server(Path(task.directory) / "postgres") as (url, _):
        without = await _floods(url)
        connection = await asyncpg.connect(url)
        await connection.execute(_SLEEPERS, task.scale, timeout=600)
        await connection.execute("VACUUM ANALYZE perdure.job", timeout=600)
        await connection.execute("VACUUM ANALYZE perdure.run", timeout=600)
        await connection.execute("CHECKPOINT", timeout=600)
        with_them = await _floods(url)
        await connection.execute(_AWAY, timeout=600)
        await connection.execute(_JOBS_AWAY, timeout=600)
        await connection.execute("VACUUM FULL perdure.job", timeout=600)
        await connection.execute("VACUUM FULL perdure.run", timeout=600)
        await connection.execute("CHECKPOINT", timeout=600)
        without += await _floods(url)
        await connection.close()
    before, after = statistics.median(without), statistics.median(with_them)
    return Measured(
        figures={
            "sleeping runs": task.scale,
            "claimed without them, runs/s": before,
            "claimed with them, runs/s": after,
            "cost: ratio": before / after,
        }
    )


async def _floods(url: str) -> list[float]:
    async with embedded(app, db=url, max_active=_ACTIVE) as node:
        trigger = trigger_of(node)
        await load.flood(trigger, _FLIGHT, _FLIGHT)
        return [await load.flood(trigger, 2 * _FLIGHT, _FLIGHT) for _ in range(_ROUNDS)]


if __name__ == "__main__":
    serve(lambda task: loops.run(_measure(task), ""))

"""`doctor` and `gc` on database files: what they find, what they remove, and that they change nothing else."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from perdure import App, Context, embedded, step
from perdure.cli import main
from perdure.testing import VirtualClock

LONG_AGO = 1_600_000_000_000


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A file with one completed run and one that waits, both of long ago."""
    app = App("shop")

    @app.function("quick", trigger="t/quick")
    async def quick(ctx: Context) -> int:
        return 1

    @app.function("wait", trigger="t/wait")
    async def wait(ctx: Context) -> None:
        await step.wait_for_event("go", event="t/go", timeout="30d")

    path = tmp_path / "shop.db"

    async def fill() -> None:
        async with embedded(app, db=path, clock=VirtualClock(LONG_AGO)) as node:
            await node.send([{"name": "t/quick"}, {"name": "t/wait"}, {"name": "t/none"}])
            await node.settle()

    asyncio.run(fill())
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def levels(database: Path) -> dict[str, str]:
    found = json.loads(run("doctor", "--db", str(database), "--json").output)
    return {finding["topic"]: finding["level"] for finding in found}


def test_a_file_in_order(database: Path) -> None:
    result = run("doctor", "--db", str(database))
    assert result.exit_code == 0, result.output
    for text in ("no server has it open", "1 running, 1 completed", "no runs without a next wake-up"):
        assert text in result.output
    assert set(levels(database).values()) <= {"ok", "note"}


def test_a_run_that_nothing_will_wake_is_a_defect(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM job")
        connection.execute("INSERT INTO slot VALUES ('k', 'nobody')")
    connection.close()
    result = run("doctor", "--db", str(database))
    assert result.exit_code == 1
    assert "runs without a next wake-up: 01" in result.output and "k of nobody" in result.output


def test_runs_of_a_function_that_is_gone_are_a_warning(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM function")
    connection.close()
    result = run("doctor", "--db", str(database))
    assert result.exit_code == 0
    assert "1 open runs of shop-wait wait, but no app in force has that function" in result.output


@pytest.mark.parametrize(("version", "text"), [(99, "install a newer perdure"), (0, "not a database of perdure")])
def test_a_file_of_another_version(database: Path, version: int, text: str) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    result = run("doctor", "--db", str(database))
    assert result.exit_code == 1 and text in result.output


def test_collecting_what_is_past_its_time(database: Path) -> None:
    dry = run("gc", "--db", str(database), "--dry-run")
    assert dry.exit_code == 0 and dry.stdout.startswith("would remove 1 runs and 1 events")
    kept = run("gc", "--db", str(database), "--completed", "9000d", "--events", "9000d")
    assert kept.stdout == "removed 0 runs and 0 events\n"
    done = run("gc", "--db", str(database))
    # The event of the run that went is free now; that of the waiting run stays.
    assert done.stdout == "removed 1 runs and 2 events\n"
    assert "1 running" in run("doctor", "--db", str(database)).output
    wrong = run("gc", "--db", str(database), "--failed", "soon")
    assert wrong.exit_code == 2 and "--failed: " in wrong.output


def test_a_lock_that_may_not_be_touched_is_no_obstacle(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str | None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("perdure.store.sqlite.lock.holder", refuse)
    result = run("doctor", "--db", str(database))
    assert result.exit_code == 0
    assert "it cannot be told whether a server has it open: Permission denied" in result.output


def test_a_file_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE precious (data)")
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    for command in ("doctor", "gc"):
        result = run(command, "--db", str(path))
        assert result.exit_code == 1 and "newer perdure" not in result.output

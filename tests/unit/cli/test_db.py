"""`perdure db`: what it says of a copy, and to wrong usage."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from perdure import App, Context, embedded, step
from perdure.cli import main
from tests.support.postgres import PostgresServer

app = App("d")


@app.function("quick", trigger="d/quick")
async def quick(ctx: Context) -> int:
    return await step.run("one", lambda: 1)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["db", *arguments])


def fill(db: str) -> None:
    async def go() -> None:
        async with embedded(app, db=db) as engine:
            assert await (await engine.trigger(quick)).result(timeout=10) == 1

    asyncio.run(go())


def test_a_copy_says_what_it_did_and_never_the_password(tmp_path: Path, postgres_server: PostgresServer) -> None:
    source, url = str(tmp_path / "shop.db"), postgres_server.new_database()
    fill(source)
    target = url.replace("postgres@", "postgres:s3cret@")
    result = run("copy", source, target)
    assert result.exit_code == 0, result.output
    assert "run                     1 rows" in result.output and "their counts and checksums agree" in result.output
    assert "start perdure with --db postgresql://postgres:***@" in result.output and "s3cret" not in result.output
    again = run("copy", source, target)
    assert again.exit_code == 1 and "is not empty (table event): copy into a new database" in again.output
    assert "s3cret" not in again.output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("copy", "none.db", "b.db"), 1, "there is no file none.db"),
        (("copy", "mysql://x/y", "b.db"), 2, "is neither a file nor a URL of PostgreSQL"),
        (("copy", ":memory:", "b.db"), 2, "what is in memory cannot be copied"),
        (("copy", "a.db", "./a.db"), 1, "source and target are the same database"),
        (("copy", "a.db"), 2, "Missing argument 'TARGET'"),
        (("copy", "a.db", "postgresql://u:s3cret@127.0.0.1:1/x"), 1, "there is no file a.db"),
        (("copy", "postgresql://u:s3cret@127.0.0.1:1/x", "b.db"), 1, "postgresql://u:***@127.0.0.1:1/x: "),
        (("backup", "none.db", "b.db"), 1, "there is no file none.db"),
    ],
)
def test_wrong_usage_is_told_in_one_line(
    arguments: tuple[str, ...], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == code and message in result.output
    assert "s3cret" not in result.output and "Traceback" not in result.output
    assert not [path.name for path in tmp_path.iterdir() if path.suffix == ".db"]

"""`perdure gc`: removes from a file what is past its retention; a running server does the same every hour."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import click

from perdure.cli.output import size

if TYPE_CHECKING:
    from perdure.engine.retention import Retention
    from perdure.runner.sweeper import Collected


@click.command("gc")
@click.option("--db", required=True, type=click.Path(path_type=Path), help="The database file.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--completed", default="7d", show_default=True, help="Keep completed and cancelled runs this long.")
@click.option("--failed", default="30d", show_default=True, help="Keep failed runs this long.")
@click.option("--events", default="7d", show_default=True, help="Keep events that no run needs this long.")
def command(db: Path, dry_run: bool, completed: str, failed: str, events: str) -> None:
    """Remove ended runs and events that are past their time from a file that no server has open."""
    from perdure.engine.retention import Retention
    from perdure.model.durations import DurationError, parse_duration
    from perdure.model.errors import PerdureError

    if not db.is_file():
        raise click.ClickException(f"there is no file {db}")
    for name, value in (("--completed", completed), ("--failed", failed), ("--events", events)):
        try:
            parse_duration(value)
        except DurationError as error:
            raise click.UsageError(f"{name}: {error}") from error
    click.echo(f"collecting in {db} ({size(db.stat().st_size)}) ...", err=True)
    try:
        found = asyncio.run(_collect(db, Retention(completed, failed, events), dry_run))
    except PerdureError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"cannot open {db}: {error.strerror}") from error
    verb = "would remove" if dry_run else "removed"
    click.echo(f"{verb} {found.runs} runs and {found.events} events")


async def _collect(db: Path, policy: Retention, dry_run: bool) -> Collected:
    from perdure.model.ids import UlidFactory
    from perdure.runner import SystemClock
    from perdure.runner.decider import Decider
    from perdure.runner.sweeper import Sweeper
    from perdure.store.sqlite import SqliteStore

    store, clock = SqliteStore(db), SystemClock()
    await store.open()
    try:
        decider = Decider(store, clock, UlidFactory(clock.now, os.urandom), random.random)
        return await Sweeper(decider, policy).collect(dry_run=dry_run)
    finally:
        await store.close()

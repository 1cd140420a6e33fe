"""`perdure gc`: removes from a database what is past its retention; a running server does the same every hour."""

from __future__ import annotations

import asyncio
import os
import random
from typing import TYPE_CHECKING

import click

from perdure.cli.database import existing

if TYPE_CHECKING:
    from perdure.engine.retention import Retention
    from perdure.runner.sweeper import Collected


@click.command("gc")
@click.option("--db", required=True, help="The database: a file, or postgresql://...")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--completed", default="7d", show_default=True, help="Keep completed and cancelled runs this long.")
@click.option("--failed", default="30d", show_default=True, help="Keep failed runs this long.")
@click.option("--events", default="7d", show_default=True, help="Keep events that no run needs this long.")
@click.option("--threads", help="Keep threads of agents this long after their last message; for ever by default.")
def command(db: str, dry_run: bool, completed: str, failed: str, events: str, threads: str | None) -> None:
    """Remove ended runs and events that are past their time, from PostgreSQL or a file that no server has open."""
    from perdure.engine.retention import Retention
    from perdure.model.durations import DurationError, parse_duration
    from perdure.model.errors import PerdureError

    name = existing(db)
    ages = {"--completed": completed, "--failed": failed, "--events": events, "--threads": threads}
    for option, value in ages.items():
        try:
            if value is not None:
                parse_duration(value)
        except DurationError as error:
            raise click.UsageError(f"{option}: {error}") from error
    click.echo(f"collecting in {name} ...", err=True)
    try:
        found = asyncio.run(_collect(db, Retention(completed, failed, events, threads), dry_run))
    except PerdureError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"cannot open {db}: {error.strerror}") from error
    verb = "would remove" if dry_run else "removed"
    click.echo(f"{verb} {found.runs} runs and {found.events} events")
    if found.agent_runs or found.threads:
        click.echo(f"{verb} {found.agent_runs} runs of agents and {found.threads} threads")


async def _collect(db: str, policy: Retention, dry_run: bool) -> Collected:
    from perdure.model.ids import UlidFactory
    from perdure.runner import SystemClock
    from perdure.runner.decider import Decider
    from perdure.runner.sweeper import Sweeper
    from perdure.store.naming import make_store

    store, clock = make_store(db), SystemClock()
    await store.open()
    try:
        decider = Decider(store, clock, UlidFactory(clock.now, os.urandom), random.random)
        return await Sweeper(decider, policy).collect(dry_run=dry_run)
    finally:
        await store.close()

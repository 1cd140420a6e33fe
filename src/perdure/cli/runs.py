"""`perdure runs`: the latest runs as a table."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click
import msgspec

from perdure.cli.connection import ask, url_option
from perdure.cli.output import duration, local_time, millis, now, print_json, print_table

if TYPE_CHECKING:
    from perdure.client import Client, RunInfo

_STATUSES = ["queued", "running", "completed", "failed", "cancelled", "skipped"]
_PAGE = 100


@click.command("runs")
@click.option("--status", type=click.Choice(_STATUSES, case_sensitive=False), help="Only runs of this status.")
@click.option("--function", "function", help="Only runs of this function (slug, or id within its app).")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000), help="How many at most.")
@click.option("--watch", is_flag=True, help="Show again every second, until interrupted.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@url_option
def command(status: str | None, function: str | None, limit: int, watch: bool, as_json: bool, url: str) -> None:
    """List runs, newest first."""
    while True:
        try:
            runs = ask(url, lambda client: _list(client, status, function, limit))
            if watch:
                click.clear()
            if as_json:
                print_json(msgspec.to_builtins(runs))
            else:
                _print(runs)
            if not watch:
                return
            time.sleep(1)
        except KeyboardInterrupt:
            return


def _print(runs: list[RunInfo]) -> None:
    if not runs:
        click.echo("no runs")
        return
    rows = [(run.id, run.function_id, run.status, local_time(run.queued_at), duration(took(run))) for run in runs]
    print_table(("RUN", "FUNCTION", "STATUS", "QUEUED", "TOOK"), rows)


def took(run: RunInfo) -> int | None:
    """How long a run has been running, or did."""
    if run.duration_ms is not None:
        return int(run.duration_ms)
    started_at = millis(run.started_at)
    return None if started_at is None or run.ended else max(0, now() - started_at)


async def _list(client: Client, status: str | None, function: str | None, limit: int) -> list[RunInfo]:
    runs: list[RunInfo] = []
    cursor = None
    while len(runs) < limit:
        page = await client.list_runs(
            limit=min(_PAGE, limit - len(runs)), cursor=cursor, status=status, function=function
        )
        runs += page.runs
        cursor = page.cursor
        if cursor is None:
            break
    return runs

"""`perdure cancel`: by id, or all runs of a function that satisfy conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from perdure.cli.connection import ask, url_option

if TYPE_CHECKING:
    from perdure.client import Client


_LONG = 600.0
"""How long a cancellation in bulk may take: it is one request, however many runs there are (seconds)."""


@click.command("cancel")
@click.argument("run_ids", metavar="[ID]...", nargs=-1)
@click.option("--function", "function", help="Cancel the open runs of this function.")
@click.option("--if", "condition", help="With --function: only where this expression on `event` holds.")
@click.option("--after", help="With --function: only runs queued at or after this time (RFC 3339).")
@click.option("--before", help="With --function: only runs queued at or before this time (RFC 3339).")
@url_option
def command(
    run_ids: tuple[str, ...],
    function: str | None,
    condition: str | None,
    after: str | None,
    before: str | None,
    url: str,
) -> None:
    """Cancel runs by ID, or in bulk with --function."""
    if bool(run_ids) == bool(function):
        raise click.UsageError("give ids of runs, or --function")
    if function:
        click.echo(f"cancelling runs of {function} ...", err=True)
        count = ask(
            url,
            lambda client: client.cancel_many(function, if_=condition, started_after=after, started_before=before),
            timeout=_LONG,
        )
        click.echo(f"{count} {'run' if count == 1 else 'runs'} of {function} cancelled")
        return
    if condition or after or before:
        raise click.UsageError("--if, --after and --before go with --function")
    for run_id in run_ids:
        status = ask(url, lambda client, run_id=run_id: _cancel(client, run_id))  # type: ignore[misc]
        if status == "Cancelled":
            click.echo(f"run {run_id} is cancelled")
        else:
            click.echo(f"run {run_id} had ended before: {status.upper()}")


async def _cancel(client: Client, run_id: str) -> str:
    return await client.cancel(run_id)

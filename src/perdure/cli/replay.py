"""`perdure replay`: the ended runs of a function once more, those of a status and a span of time."""

from __future__ import annotations

from uuid import uuid4

import click

from perdure.cli.connection import ask, url_option

_STATUSES = ["failed", "completed", "cancelled", "skipped"]
_LONG = 600.0
"""How long a replay may take: it is one request, however many runs there are (seconds)."""


@click.command("replay")
@click.argument("function")
@click.option(
    "--status",
    "statuses",
    type=click.Choice(_STATUSES, case_sensitive=False),
    multiple=True,
    default=["failed"],
    show_default=True,
    help="Runs that ended so; may be repeated.",
)
@click.option("--from", "queued_from", metavar="TIME", help="Only runs queued at or after this time (RFC 3339).")
@click.option("--until", "queued_until", metavar="TIME", help="Only runs queued at or before this time (RFC 3339).")
@click.option("--id", "replay_id", help="Name of the replay: the same one does nothing twice, and can be continued.")
@url_option
def command(
    function: str,
    statuses: tuple[str, ...],
    queued_from: str | None,
    queued_until: str | None,
    replay_id: str | None,
    url: str,
) -> None:
    """Start the ended runs of FUNCTION (a slug, or an id within its app) once more.

    \b
    perdure replay shop-fulfil --status failed --from 2027-01-15T08:00:00Z
    """
    name = replay_id or uuid4().hex
    click.echo(f"replaying runs of {function}; if this is interrupted, go on with --id {name}", err=True)
    done = ask(
        url,
        lambda client: client.replay(
            function,
            status=[status.upper() for status in statuses],
            queued_from=queued_from,
            queued_until=queued_until,
            id=name,
        ),
        timeout=_LONG,
    )
    skipped = f", {done.skipped_count} could not be started again" if done.skipped_count else ""
    click.echo(f"{done.run_count} {'run' if done.run_count == 1 else 'runs'} of {function} started{skipped}")

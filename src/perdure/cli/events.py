"""`perdure events`: the latest events that a server received."""

from __future__ import annotations

import click

from perdure.cli.connection import ask, url_option
from perdure.cli.output import local_time, print_json, print_table, short


@click.command("events")
@click.option("--name", help="Only events of this name.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 100), help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@url_option
def command(name: str | None, limit: int, as_json: bool, url: str) -> None:
    """List received events, newest first."""
    found = ask(url, lambda client: client.events(limit=limit, name=name))
    if as_json:
        print_json(found)
    elif not found:
        click.echo("no events")
    else:
        rows = [
            (event["internal_id"], event["name"], local_time(event["received_at"]), short(event["data"]))
            for event in found
        ]
        print_table(("EVENT", "NAME", "RECEIVED", "DATA"), rows)

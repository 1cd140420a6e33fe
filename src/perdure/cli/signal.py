"""`perdure signal`: wakes the run that waits for a signal."""

from __future__ import annotations

import sys

import click

from perdure.cli.connection import ask, url_option
from perdure.cli.payload import json_argument


@click.command("signal")
@click.argument("name")
@click.argument("data", default="null")
@url_option
def command(name: str, data: str, url: str) -> None:
    """Send the signal NAME with DATA, any JSON (- reads it from standard input).

    Exit code 1 if no run waits for it: signals are not kept.
    """
    value = json_argument(data)
    run_id = ask(url, lambda client: client.signal(name, value))
    if run_id is None:
        click.echo(f"no run waits for signal {name}", err=True)
        sys.exit(1)
    click.echo(f"run {run_id} got it")

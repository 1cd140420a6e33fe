"""`perdure rerun`: a run once more, from its beginning or from one of its steps."""

from __future__ import annotations

import click

from perdure.cli.connection import ask, url_option


@click.command("rerun")
@click.argument("run_id", metavar="RUN")
@click.option("--from", "step", metavar="STEP", help="Do only this step (name or hash) and later ones again.")
@url_option
def command(run_id: str, step: str | None, url: str) -> None:
    """Start RUN once more, as a new run with the same events.

    \b
    perdure rerun 01M81ZZ0Q1W2E3R4T5Y6A7S8D9 --from charge
    """
    started = ask(url, lambda client: client.rerun(run_id, from_step=step))
    click.echo(f"run {started}")

"""`perdure rerun`: a run once more, from its beginning or from one of its steps."""

from __future__ import annotations

import click

from perdure.cli.connection import ask, url_option
from perdure.model.json import InvalidJsonError, Json, decode


@click.command("rerun")
@click.argument("run_id", metavar="RUN")
@click.option("--from", "step", metavar="STEP", help="Do only this step (name or hash) and later ones again.")
@click.option("--input", "text", metavar="JSON", help="What that step gets instead of its arguments: a JSON array.")
@url_option
def command(run_id: str, step: str | None, text: str | None, url: str) -> None:
    """Start RUN once more, as a new run with the same events.

    \b
    perdure rerun 01M81ZZ0Q1W2E3R4T5Y6A7S8D9 --from charge
    perdure rerun 01M81ZZ0Q1W2E3R4T5Y6A7S8D9 --from charge --input '["card-2"]'
    """
    if text is not None and step is None:
        raise click.UsageError("--input is for a step: say which with --from")
    arguments = None if text is None else _arguments(text)
    started = ask(url, lambda client: client.rerun(run_id, from_step=step, arguments=arguments))
    click.echo(f"run {started}")


def _arguments(text: str) -> list[Json]:
    try:
        value = decode(text)
    except InvalidJsonError as error:
        raise click.UsageError(f"--input is not JSON: {error}") from error
    if not isinstance(value, list):
        raise click.UsageError("--input must be a JSON array, one element an argument of the step")
    return value

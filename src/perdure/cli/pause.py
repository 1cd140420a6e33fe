"""`perdure pause`: lets a function rest until it is resumed."""

from __future__ import annotations

import click

from perdure.cli.connection import ask, url_option


@click.command("pause")
@click.argument("function")
@url_option
def command(function: str, url: str) -> None:
    """Pause FUNCTION (slug, or id within its app) until `perdure resume`.

    Events and schedules start nothing meanwhile, and are not made up for. Its runs rest as soon as they wait.
    """
    slug = ask(url, lambda client: client.pause(function))
    click.echo(f"function {slug} is paused")

"""`perdure resume`: ends the pause of a function."""

from __future__ import annotations

import click

from perdure.cli.connection import ask, url_option


@click.command("resume")
@click.argument("function")
@url_option
def command(function: str, url: str) -> None:
    """Resume FUNCTION (slug, or id within its app): its runs go on where they were."""
    slug = ask(url, lambda client: client.resume(function))
    click.echo(f"function {slug} is resumed")

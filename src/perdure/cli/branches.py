"""The option that bounds how many branch environments a server has."""

from __future__ import annotations

import click

from perdure.cli.polling import variables

max_environments_option = click.option(
    "--max-environments",
    default=20,
    show_default=True,
    envvar=variables("--max-environments")[0],
    type=click.IntRange(min=0),
    help="How many branch environments there may be, besides archived ones.",
)

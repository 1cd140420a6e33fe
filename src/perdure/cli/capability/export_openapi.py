"""`perdure capability export-openapi FILE`: the REST adapters of a capability as an OpenAPI document."""

from __future__ import annotations

from pathlib import Path

import click

from perdure.cli.capability.needs import need
from perdure.cli.output import print_json


@click.command("export-openapi")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--server", default="", metavar="URL", help="Where the adapters are, if not where the file says.")
def command(file: Path, server: str) -> None:
    """Print the REST adapters of FILE as an OpenAPI 3.1 document.

    \b
    perdure capability export-openapi shop.yaml --server https://shop.example
    """
    need("yaml")
    from perdure.capability.findings import CapabilityError
    from perdure.capability.loading import open_file
    from perdure.capability.openapi import document
    from perdure.capability.source import DocumentError

    try:
        opened = open_file(file)
        opened.findings.raise_errors()
    except (DocumentError, CapabilityError) as error:
        raise click.ClickException(str(error)) from error
    if all(each.kind != "rest" for each in opened.capability.exposures):
        raise click.ClickException(f"{file} exposes no REST adapter")
    print_json(document(opened.capability, server))

"""`perdure capability validate FILE...`: every finding with its line and what it means."""

from __future__ import annotations

from pathlib import Path

import click

from perdure.cli.capability.needs import need
from perdure.cli.output import print_json


@click.command("validate")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--strict", is_flag=True, help="Fail on warnings, too: on all that the published format does not have.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def command(context: click.Context, files: tuple[Path, ...], strict: bool, as_json: bool) -> None:
    """Tell everything that is found in capability files.

    An error keeps a file from running. A warning says how perdure takes what the published format does not have, or
    leaves open. Exit code 1 if there are errors, or, with --strict, warnings.

    \b
    perdure capability validate shop.yaml
    """
    need("yaml")
    from perdure.capability.loading import findings_of

    found = []
    for file in files:
        try:
            found += findings_of(file)
        except OSError as error:
            raise click.ClickException(f"cannot read {file}: {error.strerror or error}") from error
    errors = sum(each.severity == "error" for each in found)
    if as_json:
        fields = ("file", "line", "severity", "code", "message")
        print_json([{name: getattr(each, name) for name in fields} for each in found])
    else:
        for each in found:
            click.echo(str(each))
        click.echo(f"{errors} errors, {len(found) - errors} warnings in {len(files)} files")
    if errors or (strict and found):
        context.exit(1)

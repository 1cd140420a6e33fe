"""`perdure capability inspect FILE...`: what files expose, and what that asks of upstreams."""

from __future__ import annotations

from pathlib import Path

import click

from perdure.cli.capability.needs import need
from perdure.cli.output import print_json, print_table
from perdure.model.json import Json


@click.command("inspect")
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, with the schemas.")
def command(files: tuple[Path, ...], as_json: bool) -> None:
    """Show what capability files expose: routes and tools, their arguments, and the upstream calls behind them.

    \b
    perdure capability inspect shop.yaml
    """
    need("yaml")
    from perdure.capability.describing import describe
    from perdure.capability.loading import open_file
    from perdure.capability.source import DocumentError

    shown: list[Json] = []
    for file in files:
        try:
            shown.append({"file": str(file), **describe(open_file(file))})
        except DocumentError as error:
            raise click.ClickException(str(error)) from error
    if as_json:
        print_json(shown)
        return
    for each in shown:
        _print(each)


def _print(shown: Json) -> None:
    click.echo(f"{shown['title'] or shown['file']}  ({shown['root']} {shown['version']})")
    for each in shown["consumes"]:
        click.echo(f"  consumes  {each['namespace']}  {each['baseUri']}  {each['authentication'] or 'no credentials'}")
    for each in shown["binds"]:
        click.echo(f"  binds     {each['name']}  from {each['from']}")
    for exposure in shown["exposes"]:
        click.echo(f"\n{exposure['type']} {exposure['namespace']}  port {exposure['port'] or '-'}")
        rows = [[each["name"], each["arguments"], each["upstream"]] for each in exposure["operations"]]
        if rows:
            print_table(("NAME", "ARGUMENTS", "UPSTREAM"), rows)
    click.echo("")

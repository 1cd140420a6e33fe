"""`perdure capability generate`: the capability document of a perdure server."""

from __future__ import annotations

from pathlib import Path

import click

from perdure.cli.capability.needs import need


@click.command("generate")
@click.option("--url", default="http://127.0.0.1:8288", show_default=True, envvar="PERDURE_URL", help="The server.")
@click.option("--rest-port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Of the adapter.")
@click.option("--mcp-port", type=click.IntRange(1, 65535), default=9090, show_default=True, help="Of the adapter.")
@click.option(
    "--format", "version", default="1.0.0-beta4", show_default=True, metavar="VERSION",
    help="The version of the format: 1.0.0-beta4 to 1.0.0-beta7.",
)  # fmt: skip
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A file, instead of printing.")
def command(url: str, rest_port: int, mcp_port: int, version: str, output: Path | None) -> None:
    """Print the capability document of a perdure server: its API as REST adapter and MCP tools.

    \b
    perdure capability generate --url http://127.0.0.1:8288 -o perdure.yaml
    """
    need("yaml")
    from perdure.capability.generating import VERSIONS, generate

    if version not in VERSIONS:
        raise click.UsageError(f"--format {version} is none of {', '.join(VERSIONS)}")
    text = generate(url, rest_port, mcp_port, version)
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")

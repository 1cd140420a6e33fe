"""`perdure capability run FILE...`: serves what files expose, until a signal comes."""

from __future__ import annotations

from pathlib import Path

import click

from perdure.cli.capability.needs import need
from perdure.cli.capability.options import chosen, prepared, running_options


@click.command("run")
@running_options
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True, metavar="SECONDS",
    help="How long an upstream may take for an answer.",
)  # fmt: skip
@click.option("--db", default="capability.db", show_default=True, help="Where durable operations keep their runs.")
@click.option("--stdio", is_flag=True, help="Speak MCP over standard input and output instead of serving ports.")
def command(
    files: tuple[Path, ...],
    rest_port: int | None,
    mcp_port: int | None,
    base_uris: tuple[str, ...],
    given: tuple[str, ...],
    strict: bool,
    allow_scripts: bool,
    url: str,
    timeout: float,
    db: str,
    stdio: bool,
) -> None:
    """Serve what capability files expose: their adapters, on the ports that they name or that are given.

    Adapters of several files that share a port are served together. An upstream of the hosted service is taken to be
    the perdure server at --url; --base-uri says otherwise.

    \b
    perdure capability run shop.yaml --rest-port 8080 --base-uri shop=http://localhost:3000
    """
    need("yaml")
    from perdure.capability.upstream import HttpUpstream
    from perdure.cli.capability.hosting import host, over_stdio

    options = chosen(rest_port, mcp_port, base_uris, given, strict, allow_scripts, url)
    upstream = HttpUpstream(timeout)
    running = prepared(files, options, upstream)
    if stdio:
        need("mcp")
        over_stdio(running, upstream, db)
    else:
        host(running, options, upstream, db)

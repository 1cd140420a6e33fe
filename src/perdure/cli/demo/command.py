"""The command: chooses the parts, sets the stage for each, and says at the end whether everything holds."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

import aiohttp
import click

from perdure.cli.demo.agent import play as play_agent
from perdure.cli.demo.endpoint import play as play_endpoint
from perdure.cli.demo.findings import Finding
from perdure.cli.demo.orders import play as play_orders
from perdure.cli.demo.show import Show
from perdure.cli.demo.stage import Part, Stage

PARTS: dict[str, tuple[str, Part]] = {
    "orders": ("Orders: events over HTTP, and the server killed in the middle of its work", play_orders),
    "agent": ("An agent: killed in mid sentence, read on from an offset, approved, finished", play_agent),
    "endpoint": ("An endpoint: a request that streams, sleeps, and outlives its process", play_endpoint),
}
"""By name: what the part is about, and who plays it, in the order in which they are shown."""


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)), metavar=f"[{'|'.join(PARTS)}]...")
@click.option(
    "--orders",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Orders to send instead of the 300 that come along (JSON lines of the same shape).",
)
@click.option(
    "--kills",
    type=click.IntRange(0, 10),
    default=2,
    show_default=True,
    help="How often the server of the orders is killed.",
)
@click.option("--keep", is_flag=True, help="Keep the databases, the ledgers and the logs.")
def demo(parts: tuple[str, ...], orders: Path | None, kills: int, keep: bool) -> None:
    """Show what perdure promises, with SIGKILLs in the middle and the evidence. Without a name: all parts.

    Exits with 0 only if everything that it claims holds.
    """
    folder = Path(tempfile.mkdtemp(prefix="perdure-demo-"))
    chosen = [name for name in PARTS if not parts or name in parts]
    try:
        findings = asyncio.run(_demo(folder, chosen, orders, kills))
    finally:
        if keep:
            click.echo(f"\nkept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(0 if all(found.holds for found in findings) else 1)


async def _demo(folder: Path, parts: list[str], orders: Path | None, kills: int) -> list[Finding]:
    findings: list[Finding] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:
        for number, name in enumerate(parts):
            title, play = PARTS[name]
            blank = "\n" if number else ""
            click.echo(blank + click.style(f"{title} (perdure demo {name})", bold=True))
            findings += await play(Stage(folder, http, Show(), orders, kills))
    return findings

"""The command: sets the stage, and prints at the end what the records say."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

import aiohttp
import click

from perdure.cli.demo.director import Director
from perdure.cli.demo.evidence import Finding, Followed, judge
from perdure.cli.demo.files import APP, ORDERS, examples
from perdure.cli.demo.process import Server
from perdure.cli.demo.sending import Line
from perdure.cli.demo.show import Show
from perdure.cli.demo.timeline import choose, draw


@click.command()
@click.option(
    "--orders",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Orders to send instead of the 300 that come along (JSON lines of the same shape).",
)
@click.option(
    "--kills", type=click.IntRange(0, 10), default=2, show_default=True, help="How often the server is killed."
)
@click.option("--keep", is_flag=True, help="Keep the database, the ledger and the server's log.")
def demo(orders: Path | None, kills: int, keep: bool) -> None:
    """Run the main job end to end: orders, SIGKILLs in the middle, the evidence.

    Exits with 0 only if everything that it claims holds.
    """
    folder = Path(tempfile.mkdtemp(prefix="perdure-demo-"))
    try:
        holds = asyncio.run(_demo(folder, orders or examples() / ORDERS, kills))
    finally:
        if keep:
            click.echo(f"\nkept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(0 if holds else 1)


async def _demo(folder: Path, orders: Path, kills: int) -> bool:
    lines = [Line(number, text) for number, text in enumerate(orders.read_text(encoding="utf-8").splitlines(), 1)]
    show = Show()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:
        server = Server(folder, examples(), APP, http)
        try:
            await server.start()
            show.say(f"perdure dev {APP} on {server.url}, process {server.pid}")
            show.say(f"sending the {len(lines)} lines of {orders.name} over HTTP, ten a request")
            director = Director(server, http, show)
            await director.send(lines, kills)
            followed = await director.finish()
        finally:
            await server.stop()
    director.ledger.refresh()
    findings = judge(
        followed,
        director.ledger,
        director.kills,
        director.doctor,
        lines=len(lines),
        refused=len(director.sender.refused),
    )
    _print_refusals(director)
    _print_timeline(director, followed)
    _print_findings(findings)
    return all(finding.holds for finding in findings)


def _print_refusals(director: Director) -> None:
    sender = director.sender
    click.echo(f"\nRefused: {len(sender.refused)} lines")
    if sender.refused_batches:
        click.echo("  A batch with a bad event is refused whole, and its lines were then sent one by one:")
        click.echo(f"  {_short(sender.refused_batches[0])}")
    for refusal in sender.refused:
        click.echo(f"  line {refusal.number:>3}  {refusal.status}  {_short(refusal.message)}")


def _print_timeline(director: Director, followed: list[Followed]) -> None:
    chosen = choose(followed, director.kills)
    if chosen is not None:
        click.echo("\nOne order")
        for line in draw(chosen, director.kills):
            click.echo(line)


def _print_findings(findings: list[Finding]) -> None:
    click.echo("\nEvidence (the server's API beside the ledger of the outside world)")
    for finding in findings:
        mark = click.style("holds", fg="green") if finding.holds else click.style("FAILS", fg="red", bold=True)
        click.echo(f"  {mark}  {finding.claim}\n         {finding.detail}")


def _short(text: str, most: int = 150) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"

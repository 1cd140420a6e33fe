"""The part of the orders: sets up the server, and prints at the end what the records say."""

from __future__ import annotations

import click

from perdure.cli.demo.files import APP, ORDERS, examples
from perdure.cli.demo.findings import Finding, report
from perdure.cli.demo.orders.director import Director
from perdure.cli.demo.orders.evidence import Followed, judge
from perdure.cli.demo.orders.sending import Line
from perdure.cli.demo.orders.timeline import choose, draw
from perdure.cli.demo.process import Server
from perdure.cli.demo.stage import Stage


async def play(stage: Stage) -> list[Finding]:
    """Sends the orders, kills the server meanwhile, and judges."""
    orders, show = stage.orders or examples() / ORDERS, stage.show
    lines = [Line(number, text) for number, text in enumerate(orders.read_text(encoding="utf-8").splitlines(), 1)]
    server = Server(stage.folder, stage.http, examples(), APP)
    try:
        await server.start()
        show.say(f"perdure dev {APP} on {server.url}, process {server.pid}")
        show.say(f"sending the {len(lines)} lines of {orders.name} over HTTP, ten a request")
        director = Director(server, stage.http, show)
        await director.send(lines, stage.kills)
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
    report(findings, "the server's API beside the ledger of the outside world")
    return findings


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


def _short(text: str, most: int = 150) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"

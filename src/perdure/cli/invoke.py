"""`perdure invoke`: starts one function directly, and with --wait prints what it returned."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from perdure.cli.connection import ask, url_option
from perdure.cli.output import print_json, short
from perdure.cli.payload import json_object
from perdure.model.json import Json

if TYPE_CHECKING:
    from perdure.client import Client, RunInfo

_POLL = 0.1


@click.command("invoke")
@click.argument("function")
@click.argument("data", default="{}")
@click.option("--id", "event_id", help="Id for idempotency: within 24h, one id starts the function once.")
@click.option("--wait", is_flag=True, help="Wait for the end of the run, and print its result as JSON.")
@url_option
def command(function: str, data: str, event_id: str | None, wait: bool, url: str) -> None:
    """Start FUNCTION (slug, or id within its app) with DATA, a JSON object (- reads it from standard input).

    With --wait the exit code is 1 if the run did not complete.

    \b
    perdure invoke shop-greet '{"name": "Ada"}' --wait
    """
    body = json_object(data)
    run_id = ask(url, lambda client: client.invoke(function, body, id=event_id))
    click.echo(f"run {run_id}", err=wait)
    if not wait:
        return
    try:
        run = ask(url, lambda client: _ended(client, run_id))
    except KeyboardInterrupt:
        return
    if run.status == "COMPLETED":
        print_json(run.output)
        return
    click.echo(f"{run.status}{': ' + _reason(run.output) if run.output else ''}", err=True)
    sys.exit(1)


async def _ended(client: Client, run_id: str) -> RunInfo:
    while True:
        run = await client.get_run(run_id)
        if run.ended:
            return run
        await asyncio.sleep(_POLL)


def _reason(output: Json) -> str:
    if isinstance(output, dict) and "message" in output:
        return f"{output.get('name', 'Error')}: {output['message']}"
    return short(output, 200)

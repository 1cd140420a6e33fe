"""`perdure send`: sends one event and says which runs it started."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from perdure.cli.connection import ask, url_option
from perdure.cli.output import print_json
from perdure.model.json import InvalidJsonError, Json, decode

if TYPE_CHECKING:
    from perdure.client import Client, RunInfo


@click.command("send")
@click.argument("name")
@click.argument("data", default="{}")
@click.option("--id", "event_id", help="Id for idempotency: within 24h, one id starts a function once.")
@click.option("--key", default="NO_EVENT_KEY_SET", envvar="PERDURE_EVENT_KEY", help="Event key.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@url_option
def command(name: str, data: str, event_id: str | None, key: str, as_json: bool, url: str) -> None:
    """Send the event NAME with DATA, a JSON object (- reads it from standard input).

    Prints the id of the event and the runs that it started.

    \b
    perdure send shop/order.created '{"order": 7}'
    """
    event: dict[str, Json] = {"name": name, "data": _data(data)}
    if event_id is not None:
        event["id"] = event_id
    internal_id, runs = ask(url, lambda client: _send(client, event))
    if as_json:
        started = [{"id": run.id, "function": run.function_id} for run in runs]
        print_json({"id": internal_id, "runs": started})
        return
    click.echo(f"event {internal_id}")
    for run in runs:
        click.echo(f"  run {run.id}  {run.function_id}")
    if not runs:
        click.echo("  no run started now: nothing is triggered by it, or flow control holds or skips it")


def _data(text: str) -> dict[str, Json]:
    source = "DATA"
    if text == "-":
        text, source = sys.stdin.read(), "standard input"
    try:
        value = decode(text)
    except InvalidJsonError as error:
        raise click.UsageError(f"{source} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise click.UsageError(f"{source} must be a JSON object, such as '{{\"order\": 7}}'")
    return value


async def _send(client: Client, event: dict[str, Json]) -> tuple[str, list[RunInfo]]:
    (internal_id,) = await client.send(event)
    runs = [await client.get_run(run_id, output=False) for run_id in await client.runs_of_event(internal_id)]
    return internal_id, runs

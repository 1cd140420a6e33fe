"""`perdure send`: sends one event and says which runs it started."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from perdure.cli.connection import ask, url_option
from perdure.cli.output import print_json
from perdure.cli.payload import json_object
from perdure.model.json import Json

if TYPE_CHECKING:
    from perdure.client import Client, RunInfo


@click.command("send")
@click.argument("name")
@click.argument("data", default="{}")
@click.option("--id", "event_id", help="Id for idempotency: within 24h, one id starts a function once.")
@click.option("--key", help="Event key. [env var: PERDURE_EVENT_KEY]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@url_option
def command(name: str, data: str, event_id: str | None, key: str | None, as_json: bool, url: str) -> None:
    """Send the event NAME with DATA, a JSON object (- reads it from standard input).

    Prints the id of the event and the runs that it started.

    \b
    perdure send shop/order.created '{"order": 7}'
    """
    event: dict[str, Json] = {"name": name, "data": json_object(data)}
    if event_id is not None:
        event["id"] = event_id
    internal_id, runs = ask(url, lambda client: _send(client, event), event_key=key)
    if as_json:
        started = [{"id": run.id, "function": run.function_id} for run in runs]
        print_json({"id": internal_id, "runs": started})
        return
    click.echo(f"event {internal_id}")
    for run in runs:
        click.echo(f"  run {run.id}  {run.function_id}{'  SKIPPED' if run.status == 'SKIPPED' else ''}")
    if not runs:
        click.echo("  no run started now: nothing is triggered by it, or flow control holds or skips it")


async def _send(client: Client, event: dict[str, Json]) -> tuple[str, list[RunInfo]]:
    (internal_id,) = await client.send(event)
    runs = [await client.get_run(run_id, output=False) for run_id in await client.runs_of_event(internal_id)]
    return internal_id, runs

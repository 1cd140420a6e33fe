"""`perdure functions`: what a server has registered, and what triggers it."""

from __future__ import annotations

import click

from perdure.cli.connection import ask, url_option
from perdure.cli.output import print_json, print_table
from perdure.model.json import Json

_FLOW = (
    "concurrency",
    "throttle",
    "rate_limit",
    "debounce",
    "batch_events",
    "priority",
    "idempotency",
    "singleton",
    "cancel_on",
    "timeouts",
)


@click.command("functions")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@url_option
def command(as_json: bool, url: str) -> None:
    """List the registered functions."""
    found = ask(url, lambda client: client.functions())
    if as_json:
        print_json(found)
    elif not found:
        click.echo("no functions")
    else:
        print_table(
            ("FUNCTION", "STATE", "TRIGGERS", "RETRIES", "FLOW CONTROL"), [_row(function) for function in found]
        )


def _row(function: dict[str, Json]) -> tuple[str, ...]:
    config = function["config"]
    flow = ", ".join(name for name in _FLOW if config.get(name))
    state = "paused" if function.get("paused_at") else "active"
    return (function["id"], state, triggers_text(config["triggers"]), str(config["steps"][0]["retries"]), flow)


def triggers_text(triggers: list[dict[str, Json]]) -> str:
    """Triggers on one line.

    >>> triggers_text([{"event": "a/b", "expression": "event.data.n > 1"}, {"cron": "0 9 * * *"}])
    'a/b if event.data.n > 1, cron 0 9 * * *'
    """
    texts: list[str] = []
    for trigger in triggers:
        if "cron" in trigger:
            texts.append(f"cron {trigger['cron']}")
        else:
            condition = trigger.get("expression")
            texts.append(f"{trigger['event']} if {condition}" if condition else str(trigger["event"]))
    return ", ".join(texts) or "(invoked only)"

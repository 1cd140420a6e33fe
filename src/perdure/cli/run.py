"""`perdure run ID`: one run as a timeline of its steps, with attempts, waits and errors."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import click
import msgspec

from perdure.cli.connection import ask, url_option
from perdure.cli.output import (
    duration,
    local_time,
    millis,
    now,
    print_json,
    print_table,
    printable,
    short,
    status_text,
)
from perdure.model.json import Json

if TYPE_CHECKING:
    from perdure.client import Client, RunInfo, Span

_POLL = 0.3
_OPEN = ("RUNNING", "WAITING", "QUEUED")


@click.command("run")
@click.argument("run_id", metavar="ID")
@click.option("--follow", "--wait", "follow", is_flag=True, help="Report progress until the run has ended.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the run and its trace.")
@url_option
def command(run_id: str, follow: bool, as_json: bool, url: str) -> None:
    """Show the run ID as a timeline of its steps.

    With --follow the exit code is 1 if the run did not complete.
    """
    try:
        run, root = ask(url, lambda client: _get(client, run_id, follow, quiet=as_json))
    except KeyboardInterrupt:
        return
    if as_json:
        print_json({"run": msgspec.to_builtins(run), "trace": msgspec.to_builtins(root)})
    else:
        print_timeline(run, root)
    if follow and run.status != "COMPLETED":
        sys.exit(1)


async def _get(client: Client, run_id: str, follow: bool, *, quiet: bool) -> tuple[RunInfo, Span]:
    told: dict[str, str] = {}
    while True:
        run, root = await client.get_run(run_id), await client.get_trace(run_id)
        if not follow or run.ended:
            return run, root
        if not quiet:
            for span in root.children:
                if told.get(span.id) != span.status:
                    told[span.id] = span.status
                    at = duration(_since(root, now()))
                    click.echo(f"{at:>9}  {span.name}  {status_text(span.status)}", err=True)
        await asyncio.sleep(_POLL)


def print_timeline(run: RunInfo, root: Span) -> None:
    """Prints a run for people: its head, its steps in order, its outcome."""
    took = _took(root)
    spent = f" in {duration(took)}" if run.ended else f", for {duration(took)} so far"
    click.echo(f"run {run.id}  {run.function_id}  {status_text(run.status)}{spent if took is not None else ''}")
    click.echo(f"queued {local_time(run.queued_at)}, {_start_text(root)}")
    if run.trigger.cron is not None:
        click.echo(f"cron {run.trigger.cron}")
    for event in (root.input or {}).get("data", []):
        click.echo(f"event {printable(str(event.get('name')))}  {short(event.get('data'), 90)}")
    rows = [row for span in root.children for row in _rows(root, span, 0)]
    if rows:
        click.echo()
        print_table(("STEP", "KIND", "STATUS", "AT", "TOOK", "RESULT"), rows)
    click.echo()
    _print_outcome(run)


def _start_text(root: Span) -> str:
    if root.started_at is None:
        return "not started yet"
    waited = _since_queued(root)
    return f"started after {duration(waited)}"


def _since_queued(root: Span) -> int | None:
    queued_at, started_at = millis(root.queued_at), millis(root.started_at)
    return None if queued_at is None or started_at is None else started_at - queued_at


def _rows(root: Span, span: Span, depth: int) -> list[tuple[str, ...]]:
    kind = "" if depth else (span.step_op or "").lower().replace("_", " ")
    at = _since(root, millis(span.started_at))
    row = (
        "  " * depth + span.name,
        kind,
        span.status,
        "-" if at is None else f"+{duration(at)}",
        duration(_took(span)),
        "" if span.children and not depth else _result(span),
    )
    return [row] + [inner for child in span.children for inner in _rows(root, child, depth + 1)]


def _result(span: Span) -> str:
    if span.status == "FAILED":
        return _error_line(span.output)
    return "" if span.output is None else short(span.output)


def _error_line(error: Json, width: int = 80) -> str:
    if isinstance(error, dict) and "message" in error:
        line = f"{error.get('name', 'Error')}: {error['message']}".splitlines()[0]
        return line if len(line) <= width else line[: width - 3] + "..."
    return short(error, width)


def _print_outcome(run: RunInfo) -> None:
    if run.status == "COMPLETED":
        click.echo(f"result {short(run.output, 2000)}")
    elif run.status == "FAILED":
        click.echo(f"error {_error_line(run.output, 2000)}")
        stack = run.output.get("stack") if isinstance(run.output, dict) else None
        if stack:
            click.echo(stack.rstrip())
    elif not run.ended:
        click.echo("not ended yet (steps are listed when they wait or an attempt has ended); --follow waits for it")


def _took(span: Span) -> int | None:
    if span.duration_ms is not None:
        return int(span.duration_ms)
    started_at = millis(span.started_at)
    return None if started_at is None or span.status not in _OPEN else max(0, now() - started_at)


def _since(root: Span, at: int | None) -> int | None:
    begin = millis(root.queued_at)
    return None if at is None or begin is None else max(0, at - begin)

"""`perdure doctor`: what is wrong, if anything, with a running server or with a database.

It reads a database without changing it, whether a server has it open or not. Exit code 1 when something is
there that should never be.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from importlib.metadata import version
from pathlib import Path

import click
import msgspec

from perdure.cli.connection import ask, url_option
from perdure.cli.database import check_database, is_postgres
from perdure.cli.output import print_json, size
from perdure.model.json import Json

_WAL_FIXED = (3, 51, 3)
_LATE = 10_000
"""From when on it is worth a warning that jobs wait (ms)."""
_QUEUES_SHOWN = 10


class Finding(msgspec.Struct):
    """One line of the report. `level`: "ok" and "note" are fine, "warning" wants attention, "defect" must not be."""

    level: str
    topic: str
    text: str


@click.command("doctor")
@click.option("--db", help="Examine this file, or postgresql://... database, instead of asking a server.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@url_option
def command(db: str | None, as_json: bool, url: str) -> None:
    """Look for what is wrong with a server, or with a database."""
    findings = _of_server(url) if db is None else _of_database(db)
    if as_json:
        print_json(msgspec.to_builtins(findings))
    else:
        width = max(len(finding.topic) for finding in findings)
        for finding in findings:
            click.echo(f"{_mark(finding.level)} {finding.topic:<{width}}  {finding.text}")
    if any(finding.level == "defect" for finding in findings):
        sys.exit(1)


def _mark(level: str) -> str:
    colour = {"ok": "green", "note": None, "warning": "yellow", "defect": "red"}[level]
    return click.style(f"{level:<7}", fg=colour)


def _of_server(url: str) -> list[Finding]:
    found = ask(url, lambda client: client.doctor())
    resident = found["resident"]
    return [
        Finding("ok", "server", f"perdure {found['perdure']} at {url}"),
        Finding("ok", "python", found["python"]),
        _sqlite(found["sqlite"]),
        Finding("ok", "functions", str(found["functions"])),
        Finding("ok", "in memory", f"{resident['active']} executing, {resident['parked']} parked"),
        *_state(found),
    ]


def _of_database(db: str) -> list[Finding]:
    check_database(db)
    return _of_postgres(db) if is_postgres(db) else _of_file(Path(db))


def _of_postgres(url: str) -> list[Finding]:
    from perdure.engine import views
    from perdure.model.errors import StoreError
    from perdure.server.shapes_v1 import health
    from perdure.store.naming import shown
    from perdure.store.postgres.examine import examine

    findings = [
        Finding("ok", "perdure", version("perdure")),
        Finding("ok", "python", sys.version.split()[0]),
        Finding("ok", "database", shown(url)),
    ]
    try:
        found = asyncio.run(examine(url, views.health))
    except StoreError as error:
        return [*findings, Finding("defect", "contents", str(error))]
    findings.append(Finding("ok", "postgresql", found.server))
    if found.contents is None:
        return [*findings, _schema(found.schema, found.known)]
    findings.append(Finding("ok", "schema", f"version {found.schema}"))
    findings.append(_bus(found.buses))
    return findings + _state(health(found.contents, (0, 0), 0, found.now))


def _bus(buses: list[str | None]) -> Finding:
    """Which way the news of the nodes that are alive travel."""
    on = [bus for bus in buses if bus is not None]
    if not on:
        return Finding("ok", "bus", "none: news travel by the database")
    if len(on) == len(buses) and len(set(on)) == 1:
        return Finding("ok", "bus", "news travel over the bus that all nodes hear")
    text = f"{len(on)} of {len(buses)} nodes hear a bus, or not the same one: news travel by the database"
    return Finding("warning", "bus", text)


def _schema(stored: int, latest: int) -> Finding:
    """What is to be said of a schema that is not this program's."""
    if stored == 0:
        return Finding("defect", "schema", "this is not a database of perdure, or an empty one")
    if stored > latest:
        text = f"version {stored}, but this perdure knows up to {latest}: install a newer perdure"
        return Finding("defect", "schema", text)
    text = f"version {stored}; the next start brings it to {latest}, then it can be examined"
    return Finding("note", "schema", text)


def _of_file(path: Path) -> list[Finding]:
    if not path.is_file():
        raise click.ClickException(f"there is no file {path}")
    findings = [
        Finding("ok", "perdure", version("perdure")),
        Finding("ok", "python", sys.version.split()[0]),
        _sqlite(sqlite3.sqlite_version),
        Finding("ok", "file", f"{path}, {size(path.stat().st_size)}{_side_file(path)}"),
        _holder(path),
    ]
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            return findings + _contents(connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        return [*findings, Finding("defect", "contents", f"the database cannot be read: {error}")]


def _side_file(path: Path) -> str:
    wal = path.with_name(path.name + "-wal")
    return f", and {size(wal.stat().st_size)} of log not yet merged into it" if wal.exists() else ""


def _holder(path: Path) -> Finding:
    from perdure.store.sqlite.lock import holder

    try:
        pid = holder(path)
    except OSError as error:
        return Finding("warning", "lock", f"it cannot be told whether a server has it open: {error.strerror}")
    return Finding("note", "lock", "no server has it open" if pid is None else f"a server has it open, process {pid}")


def _contents(connection: sqlite3.Connection) -> list[Finding]:
    from perdure.engine import views
    from perdure.server.shapes_v1 import health
    from perdure.store.sqlite.driver import drive
    from perdure.store.sqlite.migrate import is_foreign, migrations

    stored: int = connection.execute("PRAGMA user_version").fetchone()[0]
    latest = migrations()[-1][0]
    if stored != latest or is_foreign(connection, stored):
        return [_schema(0 if is_foreign(connection, stored) else stored, latest)]
    found = health(drive(connection.cursor(), views.health()), (0, 0), 0, time.time_ns() // 1_000_000)
    return [Finding("ok", "schema", f"version {stored}"), *_state(found)]


def _sqlite(text: str) -> Finding:
    numbers = tuple(int(part) for part in text.split("."))
    if numbers >= _WAL_FIXED:
        return Finding("ok", "sqlite", text)
    reason = (
        "before 3.51.3, two programs that write to one file can damage it (WAL reset); perdure alone writes from "
        "one connection, so keep other writers away from the file"
    )
    return Finding("note", "sqlite", f"{text}: {reason}")


def _state(found: Json) -> list[Finding]:
    findings = [
        Finding("ok", "runs", _counts(found["runs"])),
        Finding("ok", "jobs", _counts(found["jobs"])),
    ]
    for slug, count in found["unregistered"].items():
        text = f"{count} open runs of {slug} wait, but no app in force has that function: serve it, or cancel them"
        findings.append(Finding("warning", "functions", text))
    for slug in found["paused"]:
        text = f"{slug} is paused: events start nothing, and its runs rest; `perdure resume {slug}` ends it"
        findings.append(Finding("warning", "functions", text))
    orphans = [f"{each['run_id']} ({each['function_id']})" for each in found["orphans"]]
    leaked = [f"{each['key']} of {each['owner']}" for each in found["leaked_slots"]]
    findings.append(_none_of("orphans", "runs without a next wake-up", orphans))
    findings.append(_none_of("slots", "concurrency slots without an owner", leaked))
    # A server of an earlier version does not tell of them.
    findings += _of_cluster(found["cluster"]) if "cluster" in found else []
    return findings + (_of_agents(found["agents"]) if "agents" in found else [])


def _of_cluster(found: Json) -> list[Finding]:
    alive = [f"{node['id']} ({node['leases']} leases)" for node in found["nodes"] if node["alive"]]
    gone = [f"{node['id']} ({node['leases']} leases)" for node in found["nodes"] if not node["alive"]]
    findings = [Finding("ok", "nodes", f"{len(alive)} alive{': ' if alive else ''}{', '.join(alive)}")]
    if gone:
        findings.append(Finding("note", "nodes", f"gone without a farewell: {', '.join(gone)}"))
    if found["abandoned"]:
        text = f"{found['abandoned']} runs are held by nodes that are gone; others take them over"
        findings.append(Finding("note", "leases", text if alive else f"{text} when they start"))
    findings.append(_lag(found["lag_ms"], any_alive=bool(alive)))
    for queue in found["queues"][:_QUEUES_SHOWN]:
        if queue["ready"] or queue["blocked"]:
            counts = f"{queue['ready']} ready, {queue['blocked']} blocked, {queue['leased']} executing"
            findings.append(Finding("ok", "queue", f"{queue['function_id']}: {counts}"))
    if found["set_aside"]:
        text = f"jobs that could not be used, see the log of the server at the time: {', '.join(found['set_aside'])}"
        findings.append(Finding("warning", "stuck", text))
    return findings


def _lag(ms: int, *, any_alive: bool) -> Finding:
    if ms < _LATE:
        return Finding("ok", "lag", "nothing is late")
    late = f"what is due or ready is up to {ms // 1000} s late"
    if not any_alive:
        return Finding("note", "lag", f"{late}: no server runs")
    return Finding("warning", "lag", f"{late}: more work has come than the nodes do; start more of them")


def _of_agents(found: Json) -> list[Finding]:
    if not found["threads"] and not found["pending_approvals"]:
        return []
    text = f"{found['threads']} threads, {found['pending_approvals']} approvals wait for a decision"
    stranded = [f"{each['run_id']} ({each['tool_call_id']})" for each in found["stranded_approvals"]]
    return [
        Finding("ok", "agents", text),
        _none_of("approvals", "approvals that wait though their run is over", stranded),
    ]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"


def _none_of(topic: str, what: str, found: list[str]) -> Finding:
    if not found:
        return Finding("ok", topic, f"no {what}")
    return Finding("defect", topic, f"{what}: {', '.join(found)}; this is a defect of perdure, please report it")

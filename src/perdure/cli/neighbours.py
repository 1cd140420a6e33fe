"""The options of a server that shares its database with others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from perdure.model.json import Json

F = TypeVar("F", bound=Callable[..., Json])


def neighbour_options(command: F) -> F:
    """Adds `bus`, a URL or None, and `lifetime`, in seconds."""
    lifetime = click.option(
        "--lifetime",
        default=15.0,
        show_default=True,
        envvar="PERDURE_LIFETIME",
        type=click.FloatRange(min=1),
        metavar="SECONDS",
        help="How soon others on the same PostgreSQL take over the work of a server that died.",
    )
    bus = click.option(
        "--bus",
        envvar="PERDURE_BUS",
        metavar="URL",
        help="Redis or Valkey over which servers on one PostgreSQL tell each other the news: redis://..., rediss://...",
    )
    return bus(lifetime(command))


def check_bus(bus: str | None, db: str) -> None:
    """Raises `UsageError` for what is no bus, or one that nobody would be on."""
    from perdure.bus import RedisBus
    from perdure.store.naming import is_postgres

    if bus is None:
        return
    if not is_postgres(db):
        raise click.UsageError("--bus is for servers that share a PostgreSQL database (--db postgresql://...)")
    try:
        RedisBus(bus)
    except ValueError as error:
        raise click.UsageError(f"--bus {error}") from error

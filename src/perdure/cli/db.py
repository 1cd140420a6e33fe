"""`perdure db`: whole databases, moved and backed up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from perdure.store.copying import Copied


@click.group("db")
def command() -> None:
    """Move a database between a file and PostgreSQL, and back up a file."""


@command.command("copy")
@click.argument("source")
@click.argument("target")
def copy(source: str, target: str) -> None:
    """Copy all that SOURCE holds into TARGET, which must be empty: runs, what they wait for, streams, agents, apps.

    Each is a file or a URL of PostgreSQL, and no server may have it open. Afterwards start perdure on TARGET, and not
    on SOURCE again, or the work that is left would be done twice.

    \b
    perdure db copy shop.db postgresql://perdure@db/shop
    perdure db copy postgresql://perdure@db/shop shop.db
    """
    from perdure.cli.database import check_database
    from perdure.model.errors import PerdureError
    from perdure.store.copying import copy_database
    from perdure.store.naming import shown

    for name in (source, target):
        check_database(name)
        if name == ":memory:":
            raise click.UsageError("what is in memory cannot be copied: name a file, or a URL of PostgreSQL")
    click.echo(f"copying {shown(source)} to {shown(target)} ...", err=True)
    try:
        copied = asyncio.run(copy_database(source, target, _tell))
    except PerdureError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"cannot copy: {error}") from error
    rows = sum(each.rows for each in copied)
    click.echo(f"copied {rows} rows in {len(copied)} tables; their counts and checksums agree")
    click.echo(f"start perdure with --db {shown(target)}, and not on {shown(source)} again")


def _tell(copied: Copied) -> None:
    if copied.rows:
        click.echo(f"{copied.table:<14} {copied.rows:>10} rows", err=True)


@command.command("backup")
@click.argument("file")
@click.argument("target")
def backup(file: str, target: str) -> None:
    """Copy FILE, a database, to TARGET as it is at this moment, while a server goes on with it.

    PostgreSQL has tools of its own for it, such as pg_dump.
    """
    from perdure.cli.database import is_postgres
    from perdure.cli.output import size
    from perdure.model.errors import PerdureError
    from perdure.store.sqlite.backup import back_up

    if is_postgres(file):
        raise click.UsageError("back up PostgreSQL with its own tools: pg_dump, or base backups and archived WAL")
    try:
        written = back_up(Path(file), Path(target))
    except PerdureError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{target}: {size(written)}, complete and checked")

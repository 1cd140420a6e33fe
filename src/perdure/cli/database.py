"""The name of a database on the command line: a file, ":memory:", or a URL of PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import click


def is_postgres(db: str) -> bool:
    """Whether it is a URL of PostgreSQL."""
    return db.startswith(("postgresql://", "postgres://"))


def check_database(db: str) -> None:
    """Raises `UsageError` for a URL of something else."""
    if "://" in db and not is_postgres(db):
        raise click.UsageError(
            f"--db {db}: is neither a file nor a URL of PostgreSQL, such as postgresql://user:password@host/database"
        )


def existing(db: str) -> str:
    """The name of a database that is there already, as it may be shown. Raises `ClickException`."""
    from perdure.cli.output import size
    from perdure.store.naming import shown

    check_database(db)
    if is_postgres(db):
        return shown(db)
    if not Path(db).is_file():
        raise click.ClickException(f"there is no file {db}")
    return f"{db} ({size(Path(db).stat().st_size)})"

"""A copy of a file as it is at one moment, whether a server has it open or not.

The file is read through a connection that cannot write, nor merge the log, in one snapshot: the server goes on. The
copy is checked, and has its name only once it is complete and on the disk.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from perdure.model.errors import StoreError
from perdure.store.sqlite.migrate import is_foreign


def back_up(source: Path, target: Path) -> int:
    """Makes the copy; gives back its size in bytes. Raises `StoreError`, for a target that exists among others."""
    if not source.is_file():
        raise StoreError(f"there is no file {source}")
    if target.exists():
        raise StoreError(f"{target} exists already: choose another name, or remove it")
    partial = target.with_name(target.name + ".partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        try:
            _copy(source, partial)
            with partial.open("rb+") as written:
                os.fsync(written.fileno())
            partial.rename(target)
        finally:
            _remove(partial)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"cannot back up {source} to {target}: {error}") from error
    return target.stat().st_size


def _remove(partial: Path) -> None:
    for end in ("", "-wal", "-shm"):
        partial.with_name(partial.name + end).unlink(missing_ok=True)


def _copy(source: Path, partial: Path) -> None:
    with closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as reader:
        if is_foreign(reader, version := reader.execute("PRAGMA user_version").fetchone()[0]) or not version:
            raise StoreError(f"{source} is not a database of perdure, or an empty one")
        with closing(sqlite3.connect(partial)) as writer:
            # In one go, for what is copied in pieces begins anew whenever the server has written.
            reader.backup(writer)
            (found,) = writer.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise StoreError(f"the copy of {source} is damaged, and so may be the file: {found}")

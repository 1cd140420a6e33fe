"""One server per file: an operating-system lock that dies with the process that holds it.

The lock is what makes the store exclusive: whoever holds it knows that no lease in the file belongs to a living
process. It is taken on a file of its own beside the database, which names the holder for the error message.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from perdure.model.errors import StoreLockedError


class FileLock:
    """The exclusive right to a database file."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._path = database.with_name(database.name + ".lock")
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Takes the lock; raises `StoreLockedError` naming the process that has it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(descriptor)
        except OSError as error:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise StoreLockedError(
                f"{self._database} is in use by another perdure process (pid {holder}). "
                "Stop that process, or use a file of its own with db=... or --db FILE."
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def holder(database: Path) -> str | None:
    """The process id of the server that has a database file open, None when there is none. For diagnosis.

    It looks by taking the lock for an instant, so a server that starts at that very moment is refused.
    """
    path = database.with_name(database.name + ".lock")
    try:
        # Only to read, where the system locks such a descriptor: the file may be on a medium that is read-only.
        descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        _lock(descriptor)
    except OSError:
        return os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
    finally:
        os.close(descriptor)
    return None


if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _lock(descriptor: int) -> None:
        # A byte beyond the text, since a locked region cannot be read by others on Windows.
        os.lseek(descriptor, 64, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

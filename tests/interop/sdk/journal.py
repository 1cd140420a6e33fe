"""What the Python apps share: the journal of what functions did, kept under the key of the event that made them.

Functions of one app run in several threads; entries are kept in the order in which they were noted.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

_lock = threading.Lock()
_entries: dict[str, list[dict[str, Any]]] = {}


def note(key: Any, what: Any) -> int:
    """Notes that something happened now; returns how often this was noted under the key."""
    with _lock:
        entries = _entries.setdefault(str(key), [])
        entries.append({"what": what, "at": time.time_ns() // 1_000_000})
        return sum(entry["what"] == what for entry in entries)


def read(key: str) -> list[dict[str, Any]]:
    """What was noted under the key."""
    with _lock:
        return list(_entries.get(key, []))


class _Noting(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        note(text.split(" ")[0], text)


def logger() -> logging.Logger:
    """A logger of which the journal keeps what it was told, under the text's first word."""
    made = logging.getLogger("noted")
    made.setLevel(logging.INFO)
    made.handlers = [_Noting()]
    return made

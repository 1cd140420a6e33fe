"""The world outside of the shop: a payment provider, a warehouse and a carrier, as one file of JSON lines.

Whoever calls the outside gives a key, and the outside does a thing once per key, as payment providers do. Every
line is appended and fsynced before the call returns, so the file survives whatever happens to the caller:

    {"kind": "begun", "key": "order-0001/charge", "pid": 4711, "at": 1736123634605}

- `begun`: a call came in;
- `effect`: it took effect, for the first and only time under its key;
- `repeat`: its key had taken effect before, so nothing was done;
- `failed`: it was turned away.

A `begun` that nothing follows is a call during which the caller died.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path


class Ledger:
    """The file, and what it says has happened already."""

    def __init__(self, path: str | Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        self._lock = threading.Lock()
        self._seen: set[tuple[str, str]] = set()
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            self._seen.add((entry["kind"], entry["key"]))

    def has(self, kind: str, key: str) -> bool:
        return (kind, key) in self._seen

    def append(self, kind: str, key: str) -> None:
        entry = {"kind": kind, "key": key, "pid": os.getpid(), "at": time.time_ns() // 1_000_000}
        with self._lock:
            os.write(self._file, (json.dumps(entry) + "\n").encode())
            self._seen.add((kind, key))
        os.fsync(self._file)

    def call(self, key: str, seconds: float) -> None:
        """A call that takes a while and takes effect once per key."""
        self.append("begun", key)
        time.sleep(seconds)
        self.append("repeat" if self.has("effect", key) else "effect", key)

    def turn_away_once(self, key: str) -> bool:
        """Refuses the first call of a key; whether it did."""
        if self.has("failed", key):
            return False
        self.append("begun", key)
        self.append("failed", key)
        return True

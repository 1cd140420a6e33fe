"""Reads the ledger of the world outside, which examples/shop_ledger.py writes.

Invariant: nothing here comes from perdure. The ledger is what a payment provider would show.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec


class Entry(msgspec.Struct, frozen=True):
    """A line: what happened (`begun`, `effect`, `repeat`, `failed`), to which key, when (ms), called by whom."""

    kind: str
    key: str
    pid: int
    at: int


_decode = msgspec.json.Decoder(Entry).decode


class Ledger:
    """A ledger as it is now; `refresh` reads on from where the last look ended."""

    def __init__(self, path: Path) -> None:
        self.entries: list[Entry] = []
        self._path = path
        self._offset = 0

    def refresh(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        # The last line may still be in the making.
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        self.entries += [_decode(line) for line in whole.splitlines()]

    def count(self, kind: str) -> Counter[str]:
        """How often something happened, by key."""
        return Counter(entry.key for entry in self.entries if entry.kind == kind)

    def open_calls(self) -> list[Entry]:
        """The calls that have begun and did not come to an end: under way, or cut off with their caller."""
        found: dict[tuple[int, str], Entry] = {}
        for entry in self.entries:
            if entry.kind == "begun":
                found[entry.pid, entry.key] = entry
            else:
                found.pop((entry.pid, entry.key), None)
        return list(found.values())

    def effect_times(self, step: str) -> dict[str, int]:
        """When a step took effect (ms), by order."""
        suffix = f"/{step}"
        return {
            entry.key.removesuffix(suffix): entry.at
            for entry in self.entries
            if entry.kind == "effect" and entry.key.endswith(suffix)
        }

"""Identifiers: ULIDs for events and runs, SHA-1 hashes for steps.

A ULID is 26 characters of Crockford base 32: 48 bits of milliseconds, 80 bits of entropy. `UlidFactory` is
monotonic: within one millisecond it counts up, so ids sort in the order of their making. Time and entropy are
passed in. The hash of a step id is the Inngest protocol's: sha1 of the id, and for its n-th repetition in one
run sha1 of "id:n" (C.8 of the protocol: step identity is the id, never the position).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {char: value for value, char in enumerate(_ALPHABET)}
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_ENTROPY_MAX = (1 << 80) - 1
MAX_MILLIS = (1 << 48) - 1


def _encode(value: int, pairs: int) -> str:
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in range((pairs - 1) * 10, -1, -10)])


def make_ulid(millis: int, entropy: int) -> str:
    """The ULID of a time in ms and an 80-bit entropy value.

    >>> make_ulid(1700000000000, 1)
    '01HF7YAT000000000000000001'
    """
    return _encode(millis & MAX_MILLIS, 5) + _encode(entropy & _ENTROPY_MAX, 8)


def ulid_millis(ulid: str) -> int:
    """The time in ms that a ULID carries."""
    value = 0
    for char in ulid[:10]:
        value = value << 5 | _VALUES[char]
    return value


def is_ulid(text: str) -> bool:
    """Whether the text is a ULID in its canonical upper-case form.

    >>> is_ulid("01HF7YAT000000000000000001"), is_ulid("zzz")
    (True, False)
    """
    return len(text) == 26 and text[0] <= "7" and all(char in _VALUES for char in text)


class UlidFactory:
    """Makes sorted, unique ULIDs from a clock (ms) and a source of random bytes.

    When the clock goes back, the last time is kept, so the order never breaks.
    """

    def __init__(self, now: Callable[[], int], entropy: Callable[[int], bytes]) -> None:
        self._now = now
        self._entropy = entropy
        self._last = -1
        self._prefix = ""
        self._value = 0

    def __call__(self) -> str:
        millis = self._now()
        if millis > self._last:
            self._last = millis
            self._prefix = _encode(millis & MAX_MILLIS, 5)
            # The top bit stays clear, so that counting up within the millisecond cannot overflow.
            self._value = int.from_bytes(self._entropy(10), "big") >> 1
        else:
            self._value += 1
        return self._prefix + _encode(self._value, 8)


def seeded_ulid(seed_millis: int, seed_entropy: bytes, index: int) -> str:
    """The deterministic id of the index-th event (from 1) sent with `x-inngest-event-id-seed` (protocol, A.4)."""
    tail = (int.from_bytes(seed_entropy[6:10], "big") + index) & 0xFFFFFFFF
    return make_ulid(seed_millis, int.from_bytes(seed_entropy[:6] + tail.to_bytes(4, "big"), "big"))


@lru_cache(maxsize=8192)
def step_hash(step_id: str, index: int = 0) -> str:
    """The hash that identifies a step in a run; `index` counts earlier uses of the same id.

    >>> step_hash("a")
    '86f7e437faa5a7fce15d1ddcb9eaeaea377667b8'
    """
    text = step_id if index == 0 else f"{step_id}:{index}"
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

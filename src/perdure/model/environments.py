"""Environments: which one a name means, and which names there may be.

A server has one main environment, which is always there, and branch environments beside it, each by the name that
SDKs send as `x-inngest-env`. They send what the platform says of a deployment too, such as the name of a git branch;
so the names of what is deployed for good mean the main environment.
"""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID, uuid5

import msgspec

HEADER: Final = "x-inngest-env"
MAIN_NAMES: Final = frozenset({"", "production", "dev", "main", "master"})
"""The names of the main environment."""
MAIN_ID: Final = "00000000-0000-4000-b000-000000000000"
"""The id of the main environment: that of every server of one's own."""

_NAME = re.compile(r"[!-~]{1,128}")
_IDS = UUID("5f0b0c3a-6c9e-4f55-9d7c-7b4d3f3c9a10")


class EnvironmentRow(msgspec.Struct, gc=False):
    """A branch environment. One that is archived is at rest: nothing of it runs, and nobody is answered."""

    name: str
    created_at: int
    archived_at: int | None


def is_main(name: str) -> bool:
    """Whether a name means the main environment.

    >>> is_main("Production"), is_main("feature/carts")
    (True, False)
    """
    return name.lower() in MAIN_NAMES


def fault(name: str) -> str | None:
    """What is wrong with a name of an environment; None for a good one.

    >>> fault("feature/carts"), fault("two words")
    (None, "must be 1 to 128 letters, digits and signs without spaces, got 'two words'")
    """
    if _NAME.fullmatch(name):
        return None
    return f"must be 1 to 128 letters, digits and signs without spaces, got {name[:140]!r}"


def environment_id(name: str) -> str:
    """The id under which an environment appears on the wire, the same on every server.

    >>> environment_id("production") == MAIN_ID
    True
    """
    return MAIN_ID if is_main(name) else str(uuid5(_IDS, name))

"""The stage on which a part of the demo plays: a folder of its own, an HTTP session, and a voice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import aiohttp
import msgspec

from perdure.cli.demo.findings import Finding
from perdure.cli.demo.show import Show


class Stage(msgspec.Struct, frozen=True):
    """What a part gets. `orders` is the file of orders to send instead of the demo's own, `kills` how often to kill."""

    folder: Path
    http: aiohttp.ClientSession
    show: Show
    orders: Path | None = None
    kills: int = 2


Part: TypeAlias = Callable[[Stage], Awaitable[list[Finding]]]
"""Plays on a stage; returns what it found."""

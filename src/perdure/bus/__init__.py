"""The bus tells whoever is listening right now. It promises nothing: what must not be lost is in the store."""

from __future__ import annotations

from perdure.bus.memory import MemoryBus
from perdure.bus.realtime import Hub

__all__ = ["Hub", "MemoryBus"]

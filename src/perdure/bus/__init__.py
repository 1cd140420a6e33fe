"""The bus tells whoever is listening right now. It promises nothing: what must not be lost is in the store."""

from __future__ import annotations

from perdure.bus.memory import MemoryBus
from perdure.bus.realtime import Hub
from perdure.bus.redis import RedisBus

__all__ = ["Hub", "MemoryBus", "RedisBus"]

"""Tools for testing durable functions: a virtual clock, an engine in memory, a pytest plugin. Public and documented."""

from __future__ import annotations

from perdure.testing.clock import VirtualClock
from perdure.testing.engine import in_memory
from perdure.testing.factory import EngineFactory

__all__ = ["EngineFactory", "VirtualClock", "in_memory"]

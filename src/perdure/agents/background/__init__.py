"""Background tasks: calls of tools that go on beside the runs that made them."""

from __future__ import annotations

from perdure.agents.background.config import BackgroundConfig
from perdure.agents.tools import Background

__all__ = ["Background", "BackgroundConfig"]

"""The runner is the hands: it claims due jobs, keeps their runs alive in process, and feeds the engine.

`Runner` decides nothing and remembers nothing that matters: what it holds is in the store too, and a runner that
dies is replaced by the next one's ordinary claims.
"""

from __future__ import annotations

from perdure.runner.clock import Clock, SystemClock
from perdure.runner.runner import Runner

__all__ = ["Clock", "Runner", "SystemClock"]

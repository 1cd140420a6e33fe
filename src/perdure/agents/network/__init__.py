"""Networks: an agent that hands a task to its sub-agents, workflows and tools, one at a time, until it is done.

`routing.py` is what the model is asked and how its answers are read, `telling.py` how what happens is told, and
`loop.py` the loop. What is chosen is carried out as a tool call is (`calls.py`), with its approvals and its recovery.
"""

from __future__ import annotations

from perdure.agents.network.loop import run_network

__all__ = ["run_network"]

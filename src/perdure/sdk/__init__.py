"""What user code touches: App, functions, steps, and the execution that replays handlers."""

from __future__ import annotations

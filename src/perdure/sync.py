"""perdure for code that does not await: blocking steps and streams for plain handlers, `send` for threads."""

from __future__ import annotations

from perdure.sdk.sync import send, step, stream

__all__ = ["send", "step", "stream"]

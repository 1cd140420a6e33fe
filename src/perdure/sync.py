"""perdure for code that does not await: blocking steps for plain handlers, blocking `send` for threads."""

from __future__ import annotations

from perdure.sdk.sync import send, step

__all__ = ["send", "step"]

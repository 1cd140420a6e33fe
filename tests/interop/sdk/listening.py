"""uvicorn on the port that PORT names (default: a free one), which prints where it listens."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Generator

import uvicorn
from starlette.types import ASGIApp


class Listening(uvicorn.Server):
    """Use: `Listening(app).run()`, or `await Listening(app).serve()`. Without `signals`, those are somebody else's."""

    def __init__(self, app: ASGIApp, *, signals: bool = True) -> None:
        self._signals = signals
        super().__init__(uvicorn.Config(app, port=int(os.environ.get("PORT", "0")), log_level="warning"))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        port = self.servers[0].sockets[0].getsockname()[1]
        print(f"app listens on http://127.0.0.1:{port}", flush=True)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        if self._signals:
            with super().capture_signals():
                yield
        else:
            yield

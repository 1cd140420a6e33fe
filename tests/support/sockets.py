"""A server over a node in memory, on a socket of its own: for what needs a connection that stays open."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import httpx2
from starlette.types import ASGIApp

from perdure.cli.serving import Settings, _environments, _Server, _uvicorn_config, bind
from perdure.node import Node
from perdure.server import Guard, make_app
from tests.support.wire import Wire, serving


class Served:
    """A node and where it is served."""

    def __init__(self, wire: Wire, http: httpx2.AsyncClient, address: str, server: _Server) -> None:
        self.wire = wire
        self.node = wire.node
        self.http = http
        self.address = address
        """Host and port."""
        self._server = server

    def ws(self, path: str) -> str:
        return f"ws://{self.address}{path}"

    @property
    def connections(self) -> list[object]:
        """What serves the connections that are open."""
        return list(self._server.server_state.connections)

    async def stop(self) -> None:
        """Stops serving, as at a signal; harmless when it has been stopped already."""
        if self._server.started:
            self._server.started = False
            await self._server.shutdown()


@asynccontextmanager
async def served(make: Callable[[Node], ASGIApp] = make_app) -> AsyncGenerator[Served, None]:
    """Serves a node as the commands do, within this event loop."""
    async with serving() as wire:
        listener = bind("127.0.0.1", 0)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        config = _uvicorn_config(make(wire.node))
        config.load()
        settings = Settings((), "127.0.0.1", 0, ":memory:", False, None, Guard())
        server = _Server(wire.node, _environments(settings, wire.node, lambda: False), settings)
        server.config = config
        # Without the loop that waits for signals, which looks ten times a second.
        server.lifespan = config.lifespan_class(config)
        await server.startup([listener])
        async with httpx2.AsyncClient(base_url=f"http://{address}") as http:
            started = Served(wire, http, address, server)
            yield started
        await started.stop()

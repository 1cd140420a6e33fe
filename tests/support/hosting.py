"""Applications of a test on free ports: of ASGI in the test's event loop, of WSGI in threads."""

from __future__ import annotations

import asyncio
import socketserver
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import uvicorn

from perdure.model.json import Json


@asynccontextmanager
async def asgi_server(application: Json, port: int | None = None) -> AsyncGenerator[str, None]:
    """Serves an ASGI application, on a free port if none is given; its URL."""
    config = uvicorn.Config(application, port=port or 0, log_level="warning", ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    # The signals are those of the test run.
    serving = asyncio.create_task(server._serve())
    while not server.started:
        assert not serving.done(), "the application did not start"
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await serving


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Json) -> None:
        pass


class _Threaded(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


@asynccontextmanager
async def wsgi_server(application: Json) -> AsyncGenerator[str, None]:
    """Serves a WSGI application, each request in a thread; its URL."""
    server = make_server("127.0.0.1", 0, application, server_class=_Threaded, handler_class=_Silent)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        await asyncio.to_thread(server.shutdown)
        thread.join()
        server.server_close()

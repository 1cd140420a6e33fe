"""Applications of a test on free ports: of ASGI and of aiohttp in the test's event loop, of WSGI in threads."""

from __future__ import annotations

import asyncio
import socketserver
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import uvicorn
from aiohttp import web

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
    listening: int = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{listening}"
    finally:
        server.should_exit = True
        await serving
        await hung_up(listening)


@asynccontextmanager
async def aiohttp_server(application: web.Application, **options: Json) -> AsyncGenerator[str]:
    """Serves an application of aiohttp on a free port; its URL. The options are those of its runner."""
    runner = web.AppRunner(application, access_log=None, **options)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port: int = runner.addresses[0][1]
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
    await hung_up(port)


async def hung_up(port: int) -> None:
    """Ends what was accepted on a port while its server stopped: nobody else knows of it, and the loop ends."""
    transports: Json = vars(asyncio.get_running_loop()).get("_transports", {})
    for _ in range(3):
        # Accepting takes a turn of the loop, and making the connection known another.
        await asyncio.sleep(0)
        for transport in list(transports.values()):
            if (transport.get_extra_info("sockname") or (None, None))[1] == port:
                transport.abort()


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

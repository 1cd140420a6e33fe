"""The life of a server process: port, apps, node, requests, and an orderly end.

The port is taken first and the node started before the first request is accepted. The first SIGINT or SIGTERM
ends it in order: it is not ready any more, and goes on for as long as it should drain, so that a balancer sees that;
then requests are answered, steps may finish, and the rest is handed back. A second one ends it at once, even while a
step blocks the event loop, which is safe too: what was acknowledged is committed. When the node has stopped, nothing
that users' code still does keeps the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator
from typing import NoReturn

import click
import msgspec
import uvicorn
from starlette.types import ASGIApp

from perdure.apps.asking import Asker
from perdure.apps.polling import Poller
from perdure.apps.settings import Patience, Polling
from perdure.bus import RedisBus
from perdure.cli.functions import triggers_text
from perdure.cli.loading import load_apps
from perdure.cli.logs import LogFormat, configure, tell
from perdure.cli.protocols import BoundedHttp, BoundedWebSocket
from perdure.cli.reloading import Reloader
from perdure.embedding import NodeOptions, make_node
from perdure.environments import DEFAULT_MOST, Environments
from perdure.model.config import EventTrigger
from perdure.model.errors import PerdureError
from perdure.model.json import Json
from perdure.model.keys import Keys
from perdure.node import Node
from perdure.server import Guard, make_app
from perdure.server.environments import EnvironmentDoor
from perdure.store.naming import shown
from perdure.store.sqlite.store import MEMORY

_ANSWER_WITHIN = 5
"""How long requests that are being answered may take when the server ends (seconds)."""
_IDLE = 75
"""How long a connection without requests is kept (seconds). Clients and proxies keep theirs for a minute at most: the
one who closes first must not be the one who cannot know that a request is on its way."""
_MAX_FRAME = 16 * 1024 * 1024
"""The largest WebSocket message: the result of a step from a worker, and what surrounds it (bytes)."""
_PING_EVERY = 15.0
"""How often a WebSocket is asked whether anybody is there (seconds)."""
_USUAL_PORT = 8288
"""Where SDKs look for a server for development."""
_MAX_FILES = 65536
_FAREWELL = 1.0
"""How long coroutines that are left may take to end when they are cancelled (seconds)."""


class Settings(msgspec.Struct, frozen=True):
    """What `perdure dev` or `perdure start` was asked for. `retry_interval` in ms.

    `polling` without the port and $PORT, which are known when the server starts. `drain`: how many seconds it goes on
    after the signal that ends it, not ready any more. `max_environments`: how many branch environments there may be
    besides the archived ones. `bus` and `lifetime` (seconds): see `NodeOptions`.
    """

    apps: tuple[str, ...]
    host: str
    port: int
    db: str
    reload: bool
    retry_interval: int | None
    guard: Guard
    log_format: LogFormat = "text"
    polling: Polling = Polling()
    deny_vulnerable_sdks: bool = False
    patience: Patience = Patience()
    drain: float = 0.0
    max_environments: int = DEFAULT_MOST
    bus: str | None = None
    lifetime: float = 15.0

    def tell(self, text: str) -> None:
        """Says something to whoever started the server."""
        tell(self.log_format, text)


def serve(settings: Settings) -> None:
    """Serves until a signal comes. Raises `ClickException` when it cannot start."""
    if settings.reload:
        # Compiled files are told apart by second and size: an edit soon after another would be missed.
        sys.dont_write_bytecode = True
    _allow_connections()
    listener = bind(settings.host, settings.port)
    with contextlib.closing(listener), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(settings, listener))
        runner.run(_leave(settings))


async def _serve(settings: Settings, listener: socket.socket) -> None:
    apps = load_apps(settings.apps)
    # After the user's modules, so that logging is as they set it up, if they did.
    configure(settings.log_format)
    node = make_node(apps, settings.db, **_options(settings))
    try:
        await node.start()
    except PerdureError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"cannot open {shown(settings.db)}: {error.strerror}") from error
    # A request that is cut off at the end is told in one line; its traceback says nothing to anybody.
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    environments = _environments(settings, node, lambda: server.should_exit)
    server = _Server(node, environments, settings)
    await environments.start()
    _install_signals(server, settings)
    serving = asyncio.create_task(server.serve([listener]))
    poller = _poller(settings, node, listener.getsockname()[1])
    reloading = asyncio.create_task(Reloader(node, settings.apps).watch()) if settings.reload else None
    try:
        while not server.started and not serving.done():
            await asyncio.sleep(0.005)
        if server.started:
            _print_banner(settings, node, listener.getsockname()[1])
            poller.start()
        await serving
    finally:
        await poller.close()
        if reloading is not None:
            reloading.cancel()
            await asyncio.wait([reloading])
        executing = node.load[0]
        if executing:
            settings.tell(f"stopping: {executing} executing; a second signal stops at once")
        await environments.stop()
        await node.stop()
        in_memory = settings.db == MEMORY
        settings.tell(f"stopped; {'what was in memory is gone' if in_memory else 'nothing that was accepted is lost'}")


def _options(settings: Settings) -> NodeOptions:
    # What apps ask a server for production to fetch must not lead into its own network.
    return {
        "retry_interval": settings.retry_interval,
        "keys": settings.guard.keys,
        "allow_private": settings.guard.kind == b"dev",
        "endpoint_silence": settings.patience.silence,
        "endpoint_grace": settings.patience.grace,
        "bus": settings.bus,
        "lifetime": settings.lifetime,
    }


def _environments(settings: Settings, node: Node, draining: Callable[[], bool]) -> Environments:
    """The branch environments. Apps whose URL was named, and those of this process, are the main environment's."""

    def make(db: str, keys: Keys | None, environment_id: str) -> Node:
        options = _options(settings)
        options["keys"], options["environment_id"] = keys, environment_id
        made = make_node((), db, **options)
        made.registry.deny_vulnerable = settings.deny_vulnerable_sdks
        return made

    polling = msgspec.structs.replace(settings.polling, urls=(), discovery=False)
    return Environments(
        node,
        settings.db,
        settings.guard,
        make,
        most=settings.max_environments,
        polling=polling,
        draining=draining,
    )


def _poller(settings: Settings, node: Node, port: int) -> Poller:
    """Whoever asks apps on other servers to register. Where an app is named, no others are looked for."""
    node.registry.deny_vulnerable = settings.deny_vulnerable_sdks
    discovery = settings.polling.discovery and not settings.apps
    polling = msgspec.structs.replace(
        settings.polling, discovery=discovery, port=port, app_port=os.environ.get("PORT", "")
    )
    asker = Asker(settings.guard.kind.decode(), settings.guard.keys, node.clock.now)
    return Poller(node.registry, asker, polling)


def _uvicorn_config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        http=BoundedHttp,
        ws=BoundedWebSocket,
        ws_max_size=_MAX_FRAME,
        ws_ping_interval=_PING_EVERY,
        # What many listeners hear would be compressed for each of them.
        ws_per_message_deflate=False,
        server_header=False,
        timeout_keep_alive=_IDLE,
        timeout_graceful_shutdown=_ANSWER_WITHIN,
    )


def _is_news(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError):
        return False
    # uvicorn says so of every WebSocket that was refused with an answer of its own.
    return record.msg != "ASGI callable returned without completing handshake."


class _Server(uvicorn.Server):
    def __init__(self, node: Node, environments: Environments, settings: Settings) -> None:
        main = make_app(node, settings.guard, draining=lambda: self.should_exit, environments=environments)
        super().__init__(_uvicorn_config(EnvironmentDoor(main, settings.guard, environments, node.clock.now)))
        self._node = node
        self._environments = environments
        self._drain = settings.drain
        self._until: float | None = None

    async def on_tick(self, counter: int) -> bool:
        if not await super().on_tick(counter):
            return False
        if self._until is None:
            self._until = time.monotonic() + self._drain
        return time.monotonic() >= self._until

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Subscribers stay for as long as they are served: they would keep the server for the whole time it may take.
        nodes = [self._node, *self._environments.nodes]
        for node in nodes:
            node.hang_up()
        # While workers can still be heard: what they are at counts, and needs not be done again.
        await asyncio.gather(*(node.workers.close(_ANSWER_WITHIN) for node in nodes))
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        # Ours stay in force: uvicorn's ask the event loop, which a step may be blocking, to end.
        yield


def _install_signals(server: uvicorn.Server, settings: Settings) -> None:
    def on_signal(number: int, frame: Json) -> None:
        if server.should_exit:
            _end_at_once(number)
        server.should_exit = True
        if settings.log_format == "text":
            # At once, since a step may block the event loop, and whoever waits should know that the signal came.
            os.write(2, b"signal received, stopping\n")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)


async def _leave(settings: Settings) -> None:
    """Ends the process if users' code would keep it: a plain step in its thread, a handler that goes on and on."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    left = len((await asyncio.wait(tasks, timeout=_FAREWELL))[1]) if tasks else 0
    deadline = time.monotonic() + _FAREWELL
    for thread in threading.enumerate():
        if thread.name.startswith("perdure-step"):
            # One without work ends by itself, in a moment.
            thread.join(max(0.0, deadline - time.monotonic()))
            left += thread.is_alive()
    if left:
        settings.tell(f"{left} still executing, cut off; the next start does them again")
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)


def _end_at_once(number: int) -> NoReturn:
    # Not through Python's buffers: the signal may have come while they are being written.
    os.write(2, b"stopped at once; the next start recovers\n")
    os._exit(128 + number)


def _loop_factory() -> Json:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _allow_connections() -> None:
    """Takes as many file descriptors as the system grants: every call of an app is a connection."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def bind(host: str, port: int) -> socket.socket:
    """A socket on an address; raises `ClickException` when it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise click.ClickException(f"{host} is not an address of this machine: {error.strerror}") from error
    listener = socket.socket(family, kind, protocol)
    if sys.platform != "win32":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        # Claimed now: with a port that was bound but not listened on, two servers could start.
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise click.ClickException(
                f"port {port} is in use, by another perdure or another program: stop it, or choose one with --port"
            ) from error
        raise click.ClickException(f"cannot listen on {host} port {port}: {error.strerror}") from error
    listener.setblocking(False)
    return listener


def _print_banner(settings: Settings, node: Node, port: int) -> None:
    host = f"[{settings.host.strip('[]')}]" if ":" in settings.host else settings.host
    address = f"perdure serves on http://{host}:{port}"
    if settings.log_format == "json":
        settings.tell(address)
        return
    click.secho(address, bold=True)
    click.echo(f"database   {shown(settings.db)}")
    if settings.bus is not None:
        click.echo(f"bus        {RedisBus(settings.bus).shown}")
    if settings.guard.keys is not None:
        click.echo(f"keys       {settings.guard.keys}")
    functions = [function for app in node.apps for function in app.functions.values()]
    for position, function in enumerate(sorted(functions, key=lambda function: function.id)):
        triggers: list[dict[str, Json]] = [
            {"event": trigger.event, "expression": trigger.expression}
            if isinstance(trigger, EventTrigger)
            else {"cron": trigger.cron}
            for trigger in function.config.triggers
        ]
        click.echo(f"{'functions' if position == 0 else '':<10} {function.id}  {triggers_text(triggers)}")
    for row in node.registry.apps():
        click.echo(f"app        {row.id}  {row.url or 'connects by itself'}")
    if settings.apps and not functions:
        click.echo("functions  none; the app has none yet: add one with `@app.function(...)`")
    elif not functions and not node.registry.apps():
        click.echo(f"functions  none yet: name an app, as in `perdure {_command(settings)} module:app`, or start one")
        click.echo(f"           that uses an SDK of the protocol; {_how(settings, port)}")
    if settings.reload:
        click.echo("reload     on: changed code is imported at once")


def _command(settings: Settings) -> str:
    return "dev" if settings.guard.kind == b"dev" else "start"


def _how(settings: Settings, port: int) -> str:
    """What apps that use an SDK need to find the server."""
    if settings.guard.kind != b"dev":
        return "give it INNGEST_BASE_URL, INNGEST_DEV=0 and the keys, and name its URL with -u"
    variable = "INNGEST_DEV=1" if port == _USUAL_PORT else f"INNGEST_DEV=http://localhost:{port}"
    return f"it registers itself ({variable})"

"""Serves the adapters of capabilities: a listener a port, all in one process, ended by SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncGenerator, Generator, Sequence

import click
import uvicorn
from starlette.types import ASGIApp

from perdure.capability.catalog import CatalogDoor
from perdure.capability.control import ControlDoor
from perdure.capability.rest import RestDoor
from perdure.capability.running import Listener, Options, Running, clashes, listeners
from perdure.capability.upstream import HttpUpstream
from perdure.cli.protocols import BoundedHttp
from perdure.cli.serving import bind
from perdure.model.errors import PerdureError
from perdure.server.mcp.offering import Tasks

_ANSWER_WITHIN = 5
"""How long requests that are being answered may take when the process ends (seconds)."""


def host(running: Sequence[Running], options: Options, upstream: HttpUpstream, db: str) -> None:
    """Serves until a signal comes; durable runs are kept in `db`.

    Raises `ClickException` when a port is taken, or there is nothing to serve.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    found = listeners(running, options)
    if not found:
        raise click.ClickException("the files expose nothing on a port; --stdio serves MCP over standard input")
    with contextlib.ExitStack() as stack:
        places = [stack.enter_context(contextlib.closing(bind(each.address, each.port))) for each in found]

        async def serve() -> None:
            async with _engine(running, db) as tasks:
                bound = [(each, door(each, tasks), place) for each, place in zip(found, places, strict=True)]
                await _serve(running, options, bound, upstream)

        asyncio.run(serve())


@contextlib.asynccontextmanager
async def _engine(running: Sequence[Running], db: str) -> AsyncGenerator[Tasks | None]:
    """An engine for the durable operations, if there are any; what its runs are as tasks."""
    from perdure.capability.durable import DurableRuns

    runs = DurableRuns(running)
    if not runs.any:
        yield None
        return
    from perdure.embedding import embedded
    from perdure.server import make_app
    from perdure.server.mcp.asking import inside
    from perdure.server.mcp.runs import RunTasks

    try:
        async with embedded(runs.app, db=db) as node:
            application = make_app(node)
            runs.use(node)
            yield RunTasks(inside(lambda: application), {})
    except PerdureError as error:
        raise click.ClickException(str(error)) from error


def over_stdio(running: Sequence[Running], upstream: HttpUpstream, db: str) -> None:
    """Serves the MCP adapters over standard input and output, until that ends."""
    from perdure.capability.mcp import offering
    from perdure.capability.running import face
    from perdure.server.mcp.stdio import serve

    faces = [
        face(one, each, local_only=False)
        for one in running
        for each in one.opened.capability.exposures
        if each.kind == "mcp"
    ]
    if not faces:
        raise click.ClickException("the files expose nothing over MCP")

    async def run() -> None:
        try:
            async with _engine(running, db) as tasks:
                await serve(offering(faces, tasks))
        finally:
            await upstream.close()

    asyncio.run(run())


def door(listener: Listener, tasks: Tasks | None) -> ASGIApp:
    """The application of a port; `tasks` are durable runs."""
    if listener.kind == "rest":
        return RestDoor(listener.faces)
    if listener.kind == "mcp":
        from perdure.capability.mcp import CapabilityDoor

        return CapabilityDoor(listener.faces, tasks)
    if listener.kind == "skill":
        return CatalogDoor(listener.faces)
    return ControlDoor(listener.faces)


async def _serve(
    running: Sequence[Running],
    options: Options,
    bound: list[tuple[Listener, ASGIApp, socket.socket]],
    upstream: HttpUpstream,
) -> None:
    servers = [(_server(application), place) for _, application, place in bound]
    loop = asyncio.get_running_loop()

    def leave() -> None:
        for server, _ in servers:
            server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, leave)
    tasks = [asyncio.create_task(server.serve([place])) for server, place in servers]
    try:
        while not all(server.started or task.done() for (server, _), task in zip(servers, tasks, strict=True)):
            await asyncio.sleep(0.005)
        _print_banner(running, options, bound)
        await asyncio.gather(*tasks)
    finally:
        await upstream.close()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        # Ours end all listeners together.
        yield


def _server(application: ASGIApp) -> _Server:
    return _Server(
        uvicorn.Config(
            application,
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            http=BoundedHttp,
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=_ANSWER_WITHIN,
        )
    )


def _print_banner(
    running: Sequence[Running], options: Options, bound: list[tuple[Listener, ASGIApp, socket.socket]]
) -> None:
    for listener, _, place in bound:
        host, port = place.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        names = ", ".join(face.exposure.namespace for face in listener.faces)
        click.echo(f"{listener.kind:<9} http://{shown}:{port}  {names}")
        for face in listener.faces:
            if listener.address not in ("127.0.0.1", "::1") and face.exposure.authentication is None:
                name = face.exposure.namespace or listener.kind
                click.echo(f"note      {name} asks for no credentials, and other machines can reach it")
    for one in running:
        for consumer in one.opened.capability.consumers:
            placed = one.placed.get(consumer.namespace)
            told = f" (not {consumer.base_uri})" if placed and placed != consumer.base_uri else ""
            click.echo(f"upstream  {consumer.namespace}: {placed or consumer.base_uri}{told}")
        warnings = sum(each.severity == "warning" for each in one.opened.findings.all)
        if warnings:
            name = one.opened.source.name
            click.echo(f"findings  {name}: {warnings} warnings; `perdure capability validate {name}` tells them")
    for told in clashes(running, options):
        click.echo(f"route     {told}")
    click.echo("ready")

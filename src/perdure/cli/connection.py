"""Commands that talk to a server: the `--url` option, and one way to end when it does not answer or refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from perdure.client import Client

T = TypeVar("T")

url_option = click.option(
    "--url",
    default="http://127.0.0.1:8288",
    show_default=True,
    envvar="PERDURE_URL",
    help="Address of the server.",
)


def ask(url: str, question: Callable[[Client], Awaitable[T]], *, timeout: float = 30.0) -> T:
    """Runs a question against a server; failures end the command with one line and exit code 1.

    `timeout` is that of each request, in seconds.
    """
    from perdure.client import ApiError, Client, ServerUnreachableError

    async def run() -> T:
        async with Client(url, timeout=timeout) as client:
            return await question(client)

    try:
        return asyncio.run(run())
    except (ApiError, ServerUnreachableError) as error:
        raise click.ClickException(str(error)) from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error

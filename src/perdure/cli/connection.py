"""Commands that talk to a server: the `--url` option, keys from the environment, one way to end when it refuses."""

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


def ask(
    url: str, question: Callable[[Client], Awaitable[T]], *, event_key: str | None = None, timeout: float = 30.0
) -> T:
    """Runs a question against a server; failures end the command with one line and exit code 1.

    `timeout` is that of each request, in seconds. Without `event_key` that of the environment is taken.
    """
    from perdure.cli.credentials import caller_event_key, caller_signing_key
    from perdure.client import ApiError, Client, ServerUnreachableError
    from perdure.model.keys import NO_EVENT_KEY

    signing_key, event_key = caller_signing_key(), event_key or caller_event_key() or NO_EVENT_KEY

    async def run() -> T:
        async with Client(url, event_key=event_key, signing_key=signing_key, timeout=timeout) as client:
            return await question(client)

    try:
        return asyncio.run(run())
    except ApiError as error:
        hint = ": set PERDURE_EVENT_KEY and PERDURE_SIGNING_KEY to its keys" if error.status == 401 else ""
        raise click.ClickException(f"{error}{hint}") from error
    except ServerUnreachableError as error:
        raise click.ClickException(str(error)) from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error

"""Commands that talk to a server: the `--url` option, keys from the environment, one way to end when it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click

from perdure.model.json import Json

if TYPE_CHECKING:
    from perdure.client import Client

T = TypeVar("T")

F = TypeVar("F", bound=Callable[..., Json])
_ENVIRONMENT = "perdure.environment"


def _keep_environment(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    context.meta[_ENVIRONMENT] = value


def url_option(command: F) -> F:
    """Adds the options `--url`, which the command gets, and `--env`, which `ask` sees to."""
    for option in (
        click.option(
            "--env",
            envvar=["PERDURE_ENV", "INNGEST_ENV"],
            metavar="NAME",
            expose_value=False,
            callback=_keep_environment,
            help="Branch environment that is asked; the main one if it is left out.",
        ),
        click.option(
            "--url",
            default="http://127.0.0.1:8288",
            show_default=True,
            envvar="PERDURE_URL",
            help="Address of the server.",
        ),
    ):
        command = option(command)
    return command


def chosen_environment() -> str | None:
    """The environment that the command was told to ask."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(_ENVIRONMENT)


def ask(
    url: str, question: Callable[[Client], Awaitable[T]], *, event_key: str | None = None, timeout: float = 30.0
) -> T:
    """Runs a question against a server; failures end the command with one line and exit code 1.

    `timeout` is that of each request, in seconds. Without `event_key` that of the environment is taken.
    """
    from perdure.cli.credentials import caller_bearer, caller_event_key
    from perdure.client import ApiError, Client, ServerUnreachableError
    from perdure.model.keys import NO_EVENT_KEY

    environment = chosen_environment()
    bearer, event_key = caller_bearer(), event_key or caller_event_key() or NO_EVENT_KEY

    async def run() -> T:
        async with Client(url, event_key=event_key, bearer=bearer, timeout=timeout, environment=environment) as client:
            return await question(client)

    try:
        return asyncio.run(run())
    except ApiError as error:
        hint = ": set PERDURE_EVENT_KEY and PERDURE_API_KEY, or PERDURE_SIGNING_KEY, to its keys"
        raise click.ClickException(f"{error}{hint if error.status == 401 else ''}") from error
    except ServerUnreachableError as error:
        raise click.ClickException(str(error)) from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error

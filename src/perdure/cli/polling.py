"""The options by which a server finds apps on other servers, and those that only other servers of the protocol have.

Of the latter, those that mean nothing here are taken, because test suites and start scripts pass them; those that
say where data is kept are refused, because it would not be there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import click

from perdure.apps.settings import Polling
from perdure.model.json import Json

F = TypeVar("F", bound=Callable[..., Json])

_VALUES: Final = (
    ("--tick",),
    ("--queue-workers",),
    ("--connect-gateway-host",),
    ("--connect-gateway-port",),
    ("--connect-gateway-grpc-ip",),
    ("--connect-gateway-grpc-port",),
    ("--connect-executor-grpc-ip",),
    ("--connect-executor-grpc-port",),
    ("-l", "--log-level"),
)
_FLAGS: Final = (("--persist",), ("--no-ui",), ("-v", "--verbose"))
_STORES: Final = ("--postgres-uri", "--redis-uri", "--sqlite-dir")


def variables(name: str) -> list[str]:
    """The variables of the environment that stand for an option, the second as other servers of the protocol have it.

    >>> variables("--no-poll")
    ['PERDURE_NO_POLL', 'INNGEST_NO_POLL']
    """
    word = name.removeprefix("--").replace("-", "_").upper()
    return [f"PERDURE_{word}", f"INNGEST_{word}"]


def _refuse_store(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise click.UsageError(
            f"{parameter.opts[0]}: where data is kept is named with --db: a file, or a URL of PostgreSQL"
        )


def polling_options(interval: float) -> Callable[[F], F]:
    """Adds `sdk_urls`, `poll_interval` (`interval`, in s, by default), `no_poll` and `deny_vulnerable_sdks`."""
    options = [
        click.option(
            "-u",
            "--sdk-url",
            "sdk_urls",
            multiple=True,
            envvar=variables("--sdk-url"),
            metavar="URL",
            help="App to ask to register, such as http://localhost:3000/api/inngest; several may be given.",
        ),
        click.option(
            "--poll-interval",
            type=click.FloatRange(min=0),
            envvar=variables("--poll-interval"),
            default=interval,
            show_default=True,
            metavar="SECONDS",
            help="How often apps are asked to register; 0 is never.",
        ),
        click.option("--no-poll", is_flag=True, envvar=variables("--no-poll"), help="As --poll-interval 0."),
        click.option(
            "--deny-vulnerable-sdks", is_flag=True, help="Turn away npm SDKs with CVE-2026-42047, instead of warning."
        ),
        *(click.option(*names, hidden=True, expose_value=False) for names in _VALUES),
        *(click.option(*names, is_flag=True, hidden=True, expose_value=False) for names in _FLAGS),
        *(click.option(name, hidden=True, expose_value=False, callback=_refuse_store) for name in _STORES),
    ]

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def polling(sdk_urls: tuple[str, ...], poll_interval: float, no_poll: bool, *, discovery: bool) -> Polling:
    """What the options say. Raises `UsageError` for a URL that is none."""
    from perdure.wire.functions import is_url

    for url in sdk_urls:
        if not is_url(url):
            raise click.UsageError(f"--sdk-url {url}: must be a URL such as http://localhost:3000/api/inngest")
    return Polling(tuple(dict.fromkeys(sdk_urls)), 0 if no_poll else poll_interval, discovery)

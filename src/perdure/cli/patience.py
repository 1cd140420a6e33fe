"""The options that say how long a server waits for an app that answers the first request of an endpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from perdure.apps.settings import Patience
from perdure.cli.polling import variables
from perdure.model.json import Json

F = TypeVar("F", bound=Callable[..., Json])


def patience_options(command: F) -> F:
    """Adds `endpoint_silence` and `endpoint_grace`, in seconds."""
    usual = Patience()
    for name, least, value, text in (
        ("--endpoint-grace", 0.1, usual.grace, "The same after a restart of the server: the app may be gone as well."),
        ("--endpoint-silence", 1, usual.silence, "How long an endpoint may say nothing until its request is repeated."),
    ):
        command = click.option(
            name,
            type=click.FloatRange(min=least),
            envvar=variables(name)[0],
            default=value,
            show_default=True,
            metavar="SECONDS",
            help=text,
        )(command)
    return command

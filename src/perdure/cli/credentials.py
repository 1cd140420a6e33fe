"""Keys as commands get them: from options, else from PERDURE_ variables of the environment, else from INNGEST_ ones.

A server may take several event keys, which a variable holds with commas between; whoever sends takes the first.
What an option or a variable holds is never printed, only its name.
"""

from __future__ import annotations

import os
import re

import click

from perdure.model.errors import ConfigError
from perdure.model.keys import EventKey, Keys, SigningKey

EVENT_KEY = "EVENT_KEY"
SIGNING_KEY = "SIGNING_KEY"
_FALLBACK = "SIGNING_KEY_FALLBACK"
# The second prefix is that of the SDKs of the protocol.
_PREFIXES = ("PERDURE_", "INNGEST_")


def server_keys(
    event_keys: tuple[str, ...], signing_key: str | None, fallback: str | None, *, environment: bool
) -> Keys | None:
    """The keys of a server, None if there are none at all. Raises `UsageError`, also when one kind is missing."""

    def given(option: str, values: tuple[str, ...], variable: str) -> list[tuple[str, str]]:
        found = [(option, value) for value in values]
        return found or (_from_environment(variable) if environment else [])

    def signing_keys(option: str, value: str | None, variable: str) -> list[SigningKey]:
        values = () if value is None else (value,)
        return [SigningKey.parse(text, named=named) for named, text in given(option, values, variable)]

    try:
        events = [EventKey.parse(text, named=named) for named, text in given("--event-key", event_keys, EVENT_KEY)]
        signing = signing_keys("--signing-key", signing_key, SIGNING_KEY)
        old = signing_keys("--signing-key-fallback", fallback, _FALLBACK)
        if not (events or signing or old):
            return None
        # A fallback alone is no signing key: it is on its way out.
        return Keys(events, [*signing, *old] if signing else [])
    except ConfigError as error:
        raise click.UsageError(f"{error}; `perdure keys` makes a pair") from error


def caller_event_key() -> str | None:
    """The event key for sending, from the environment."""
    return next((text for _, text in _from_environment(EVENT_KEY)), None)


def caller_signing_key() -> str | None:
    """The signing key for asking a server, from the environment. Raises `UsageError`."""
    for named, text in _from_environment(SIGNING_KEY):
        try:
            SigningKey.parse(text, named=named)
        except ConfigError as error:
            raise click.UsageError(str(error)) from error
        return text
    return None


def _from_environment(variable: str) -> list[tuple[str, str]]:
    """The values of a variable, each with the name under which it was found."""
    for prefix in _PREFIXES:
        names = [prefix + variable, *([f"{prefix}{variable}S"] if variable == EVENT_KEY else [])]
        found = [(name, text) for name in names for text in re.split(r"[,\s]+", os.environ.get(name, "")) if text]
        if found:
            return found
    return []

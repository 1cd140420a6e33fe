"""Keys as commands get them: from options, else from PERDURE_ variables of the environment, else from INNGEST_ ones.

A server may take several event keys and API keys, which a variable holds with commas between; whoever sends takes
the first event key, and whoever asks has an API key of its own in PERDURE_API_KEY, without the role.
What an option or a variable holds is never printed, only its name.
"""

from __future__ import annotations

import os
import re

import click

from perdure.model.errors import ConfigError
from perdure.model.keys import ApiKey, EventKey, Keys, SigningKey

EVENT_KEY = "EVENT_KEY"
SIGNING_KEY = "SIGNING_KEY"
API_KEYS = "API_KEYS"
FALLBACK = "SIGNING_KEY_FALLBACK"
_CALLER_KEY = "PERDURE_API_KEY"
# The second prefix is that of the SDKs of the protocol.
_PREFIXES = ("PERDURE_", "INNGEST_")


api_key_option = click.option(
    "--api-key",
    "api_keys",
    multiple=True,
    metavar="ROLE:KEY",
    help="Key for people and tools, whose role is viewer, operator or admin; several may be given. [env var: "
    "PERDURE_API_KEYS]",
)


def server_keys(
    event_keys: tuple[str, ...],
    signing_key: str | None,
    fallback: str | None,
    api_keys: tuple[str, ...] = (),
    *,
    environment: bool,
) -> Keys | None:
    """The keys of a server, None if there are none at all. Raises `UsageError`, also when one kind is missing."""

    def given(option: str, values: tuple[str, ...], variable: str) -> list[tuple[str, str]]:
        found = [(option, value) for value in values]
        return found or (from_environment(variable) if environment else [])

    def signing_keys(option: str, value: str | None, variable: str) -> list[SigningKey]:
        values = () if value is None else (value,)
        return [SigningKey.parse(text, named=named) for named, text in given(option, values, variable)]

    try:
        events = [EventKey.parse(text, named=named) for named, text in given("--event-key", event_keys, EVENT_KEY)]
        signing = signing_keys("--signing-key", signing_key, SIGNING_KEY)
        old = signing_keys("--signing-key-fallback", fallback, FALLBACK)
        api = [ApiKey.parse(text, named=named) for named, text in given("--api-key", api_keys, API_KEYS)]
        if not (events or signing or old or api):
            return None
        # A fallback alone is no signing key: it is on its way out.
        return Keys(events, [*signing, *old] if signing else [], api)
    except ConfigError as error:
        raise click.UsageError(f"{error}; `perdure keys` makes a pair") from error


def caller_event_key() -> str | None:
    """The event key for sending, from the environment."""
    return next((text for _, text in from_environment(EVENT_KEY)), None)


def caller_bearer() -> str | None:
    """What proves the caller to a server, from the environment: an API key, else the signing key's hash.

    Raises `UsageError`.
    """
    if key := os.environ.get(_CALLER_KEY):
        return key
    signing_key = server_signing_key()
    return None if signing_key is None else signing_key.bearer


def server_signing_key() -> SigningKey | None:
    """The server's signing key, from the environment. Raises `UsageError`."""
    for named, text in from_environment(SIGNING_KEY):
        try:
            return SigningKey.parse(text, named=named)
        except ConfigError as error:
            raise click.UsageError(str(error)) from error
    return None


def from_environment(variable: str) -> list[tuple[str, str]]:
    """The values of a variable, each with the name under which it was found."""
    for prefix in _PREFIXES:
        names = [prefix + variable, *([f"{prefix}{variable}S"] if variable == EVENT_KEY else [])]
        found = [(name, text) for name in names for text in re.split(r"[,\s]+", os.environ.get(name, "")) if text]
        if found:
            return found
    return []

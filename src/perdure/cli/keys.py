"""`perdure keys`: a fresh pair of keys for a server, as lines for its environment."""

from __future__ import annotations

import secrets

import click


@click.command("keys")
def command() -> None:
    """Make an event key and a signing key, for `perdure start` and those who call it.

    They are new each time and kept nowhere: what is printed is all there is.

    \b
    perdure keys > shop.env
    """
    click.echo(f"PERDURE_EVENT_KEY={secrets.token_hex(24)}")
    click.echo(f"PERDURE_SIGNING_KEY=signkey-prod-{secrets.token_hex(32)}")

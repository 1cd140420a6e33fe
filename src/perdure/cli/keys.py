"""`perdure keys`: a fresh pair of keys for a server, as lines for its environment."""

from __future__ import annotations

import secrets

import click


@click.command("keys")
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice(["viewer", "operator", "admin"]),
    help="Also make an API key with this role; several may be given.",
)
def command(roles: tuple[str, ...]) -> None:
    """Make an event key and a signing key, for `perdure start` and those who call it.

    They are new each time and kept nowhere: what is printed is all there is. API keys are for people and their tools:
    they sign in with what comes after the role.

    \b
    perdure keys --role viewer --role operator > shop.env
    """
    click.echo(f"PERDURE_EVENT_KEY={secrets.token_hex(24)}")
    click.echo(f"PERDURE_SIGNING_KEY=signkey-prod-{secrets.token_hex(32)}")
    if roles:
        click.echo(f"PERDURE_API_KEYS={','.join(f'{role}:{secrets.token_hex(24)}' for role in roles)}")

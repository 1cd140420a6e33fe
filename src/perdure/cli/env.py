"""`perdure env`: branch environments made, listed, archived, and the keys of one."""

from __future__ import annotations

import click

from perdure.cli.connection import ask, url_option
from perdure.cli.output import print_json
from perdure.model.environments import fault, is_main
from perdure.model.json import Json


def _checked(context: click.Context, parameter: click.Parameter, name: str) -> str:
    if problem := fault(name):
        raise click.UsageError(f"NAME {problem}")
    if is_main(name):
        raise click.UsageError(f"{name} is the main environment, which is always there")
    return name


_name = click.argument("name", callback=_checked)


@click.group("env")
def command() -> None:
    """Branch environments: servers beside the main one, each with data, keys and limits of its own.

    \b
    perdure env create feature/carts
    perdure env keys feature/carts >> carts.env
    perdure runs --env feature/carts
    """


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@url_option
def list_(url: str, as_json: bool) -> None:
    """List the environments."""
    found = ask(url, lambda client: client.call("GET", "/v2/envs"))["data"]
    if as_json:
        print_json(found)
        return
    for each in found:
        state = "archived" if each["isArchived"] else each["type"].lower()
        click.echo(f"{each['name']:<40} {state:<9} {each['createdAt']}")


@command.command("create")
@_name
@url_option
def create(url: str, name: str) -> None:
    """Make an environment."""
    ask(url, lambda client: client.call("POST", "/v2/envs", body={"name": name}))
    click.echo(f"environment {name} is there; `perdure env keys` shows its keys")


@command.command("archive")
@_name
@url_option
def archive(url: str, name: str) -> None:
    """Lay an environment to rest: nothing runs in it, and nobody is answered. What it holds stays."""
    _change(url, name, archived=True)
    click.echo(f"environment {name} is archived")


@command.command("unarchive")
@_name
@url_option
def unarchive(url: str, name: str) -> None:
    """Wake an environment: it goes on where it was."""
    _change(url, name, archived=False)
    click.echo(f"environment {name} goes on")


@command.command("keys")
@_name
def keys(name: str) -> None:
    """Show the keys of an environment, as lines for the environment of its apps.

    They are made from the server's signing key, which has to be in the environment here; no server is asked.
    """
    from perdure.cli.credentials import server_signing_key
    from perdure.model.keys import EventKey, Keys

    signing_key = server_signing_key()
    if signing_key is None:
        raise click.UsageError("set PERDURE_SIGNING_KEY to the server's: the keys of environments are made from it")
    (event, *_), (signing, *_) = Keys([EventKey("any")], [signing_key]).own(name)
    click.echo(f"INNGEST_ENV={name}")
    click.echo(f"INNGEST_EVENT_KEY={event.reveal()}")
    click.echo(f"INNGEST_SIGNING_KEY={signing.reveal()}")


def _change(url: str, name: str, *, archived: bool) -> None:
    found: list[dict[str, Json]] = ask(url, lambda client: client.call("GET", "/v2/envs"))["data"]
    ids = [each["id"] for each in found if each["name"] == name]
    if not ids:
        raise click.ClickException(f"there is no environment {name}")
    ask(url, lambda client: client.call("PATCH", f"/v2/envs/{ids[0]}", body={"isArchived": archived}))

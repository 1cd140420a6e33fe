"""The options that commands share which make capabilities ready to run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import click

if TYPE_CHECKING:
    from perdure.capability.running import Options, Running
    from perdure.capability.upstream import Upstream

F = TypeVar("F", bound=Callable[..., None])

_port = click.IntRange(0, 65535)
_OPTIONS = (
    click.argument(
        "files",
        nargs=-1,
        required=True,
        metavar="FILE...",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
    ),
    click.option("--rest-port", type=_port, help="Port of the REST adapters; 0 takes a free one."),
    click.option("--mcp-port", type=_port, help="Port of the MCP adapters; 0 takes a free one."),
    click.option(
        "--base-uri",
        "base_uris",
        multiple=True,
        metavar="[NS=]URL",
        help="Where an upstream is, by its namespace; without one, all of them.",
    ),
    click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="The value of a bound variable."),
    click.option("--strict", is_flag=True, help="Refuse what the published format does not have."),
    click.option("--allow-scripts", is_flag=True, help="Let files run their scripts, as you."),
    click.option(
        "--url",
        default="http://127.0.0.1:8288",
        show_default=True,
        envvar="PERDURE_URL",
        help="The perdure server, which is asked where a file names the hosted service.",
    ),
)


def running_options(command: F) -> F:
    """Adds the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def chosen(
    rest_port: int | None,
    mcp_port: int | None,
    base_uris: tuple[str, ...],
    given: tuple[str, ...],
    strict: bool,
    allow_scripts: bool,
    url: str,
) -> Options:
    """The options as they were given. Raises `UsageError`."""
    from perdure.capability.running import Options

    placed: dict[str, str] = {}
    for text in base_uris:
        namespace, _, target = text.partition("=") if "=" in text.partition("://")[0] else ("", "", text)
        if not target.startswith(("http://", "https://")):
            raise click.UsageError(f"--base-uri {text}: write NS=https://HOST, with a namespace of the file")
        if "@" in urlsplit(target).netloc:
            raise click.UsageError("--base-uri: credentials do not belong into an address; the document has them")
        placed[namespace] = target
    variables: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise click.UsageError(f"--set {text}: write NAME=VALUE")
        variables[name] = value
    return Options(
        rest_port=rest_port,
        mcp_port=mcp_port,
        base_uris=placed,
        given=variables,
        strict=strict,
        scripts=allow_scripts,
        server=url,
    )


def prepared(files: tuple[Path, ...], options: Options, upstream: Upstream) -> list[Running]:
    """The capabilities, ready to be run; findings that keep them from it end the command."""
    from perdure.capability.findings import CapabilityError
    from perdure.capability.running import prepare

    try:
        return prepare(files, options, os.environ, upstream)
    except CapabilityError as error:
        raise click.ClickException(f"nothing is served:\n{error}") from error
    except OSError as error:
        raise click.ClickException(f"cannot read {error.filename}: {error.strerror}") from error

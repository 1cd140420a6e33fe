"""`perdure start`: the server for production; nobody comes in without a key, and code is not reloaded."""

from __future__ import annotations

import click

from perdure.apps.settings import Patience
from perdure.cli.branches import max_environments_option
from perdure.cli.config_file import config_option
from perdure.cli.credentials import api_key_option, server_keys
from perdure.cli.database import check_database
from perdure.cli.logs import LogFormat
from perdure.cli.neighbours import check_bus, neighbour_options
from perdure.cli.patience import patience_options
from perdure.cli.polling import polling, polling_options


@click.command("start")
@click.argument("apps", nargs=-1, metavar="[MODULE:APP]...")
@click.option(
    "--event-key",
    "event_keys",
    multiple=True,
    metavar="KEY",
    help="Key that events are sent with; several may be given. [env var: PERDURE_EVENT_KEY, PERDURE_EVENT_KEYS]",
)
@click.option(
    "--signing-key", metavar="KEY", help="Key that proves who calls the API, hex. [env var: PERDURE_SIGNING_KEY]"
)
@click.option(
    "--signing-key-fallback",
    metavar="KEY",
    help="Signing key that is accepted too, while keys change. [env var: PERDURE_SIGNING_KEY_FALLBACK]",
)
@api_key_option
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    envvar=["PERDURE_HOST", "INNGEST_HOST"],
    help="Address to listen on; 0.0.0.0 is every address of the machine.",
)
@click.option(
    "-p",
    "--port",
    default=8288,
    show_default=True,
    envvar=["PERDURE_PORT", "INNGEST_PORT"],
    type=click.IntRange(0, 65535),
    help="Port; 0 takes a free one.",
)
@click.option(
    "--db",
    default="perdure.db",
    show_default=True,
    envvar="PERDURE_DB",
    help="Database: a file, :memory:, or postgresql://...",
)
@click.option(
    "--log-format",
    default="text",
    show_default=True,
    envvar="PERDURE_LOG_FORMAT",
    type=click.Choice(["text", "json"]),
    help="json: one object a line, on standard error.",
)
@click.option(
    "--drain",
    default=0.0,
    show_default=True,
    envvar="PERDURE_DRAIN",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long it goes on after SIGTERM, not ready any more, so that a balancer sees that and sends nothing.",
)
@neighbour_options
@config_option
@max_environments_option
@polling_options(0)
@patience_options
def command(
    apps: tuple[str, ...],
    event_keys: tuple[str, ...],
    signing_key: str | None,
    signing_key_fallback: str | None,
    api_keys: tuple[str, ...],
    host: str,
    port: int,
    db: str,
    log_format: LogFormat,
    drain: float,
    bus: str | None,
    lifetime: float,
    max_environments: int,
    sdk_urls: tuple[str, ...],
    poll_interval: float,
    no_poll: bool,
    deny_vulnerable_sdks: bool,
    endpoint_silence: float,
    endpoint_grace: float,
) -> None:
    """Serve apps in production: as `perdure dev`, with keys, and without reloading.

    Keys are better kept in the environment: other users of the machine can read the options of a process. The
    names that the SDKs use (INNGEST_EVENT_KEY and so on) are understood too. `perdure keys` makes a pair.

    \b
    perdure keys > shop.env
    env $(cat shop.env) perdure start shop.app:app --db shop.db
    """
    from perdure.cli.serving import Settings, serve
    from perdure.server import Guard

    keys = server_keys(event_keys, signing_key, signing_key_fallback, api_keys, environment=True)
    if keys is None:
        raise click.UsageError(
            "a server for production needs keys: give --event-key and --signing-key, or set PERDURE_EVENT_KEY and "
            "PERDURE_SIGNING_KEY; `perdure keys` makes a pair"
        )
    check_database(db)
    check_bus(bus or None, db)
    guard = Guard(keys, kind="cloud")
    serve(
        Settings(
            apps,
            host,
            port,
            db,
            reload=False,
            retry_interval=None,
            guard=guard,
            log_format=log_format,
            polling=polling(sdk_urls, poll_interval, no_poll, discovery=False),
            deny_vulnerable_sdks=deny_vulnerable_sdks,
            patience=Patience(endpoint_silence, endpoint_grace),
            max_environments=max_environments,
            drain=drain,
            bus=bus or None,
            lifetime=lifetime,
        )
    )

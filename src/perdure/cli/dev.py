"""`perdure dev`: the whole server on one port, for development; the node behind it is the same as in production."""

from __future__ import annotations

import ipaddress

import click

from perdure.apps.settings import Patience
from perdure.cli.branches import max_environments_option
from perdure.cli.config_file import config_option
from perdure.cli.credentials import api_key_option, server_keys
from perdure.cli.database import check_database
from perdure.cli.patience import patience_options
from perdure.cli.polling import polling, polling_options, variables


@click.command("dev")
@click.argument("apps", nargs=-1, metavar="[MODULE:APP]...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "-p",
    "--port",
    default=8288,
    show_default=True,
    envvar=variables("--port"),
    type=click.IntRange(0, 65535),
    help="Port; 0 takes a free one.",
)
@click.option("--db", default="perdure.db", show_default=True, help="Database: a file, :memory:, or postgresql://...")
@click.option("--reload/--no-reload", default=True, show_default=True, help="Import changed code at once.")
@click.option(
    "--retry-interval",
    type=click.FloatRange(min=0, min_open=True),
    envvar=variables("--retry-interval"),
    metavar="SECONDS",
    help="Wait this long before every retry, instead of the backoff table.",
)
@click.option("--event-key", "event_keys", multiple=True, metavar="KEY", help="Ask for this key of events.")
@click.option("--signing-key", metavar="KEY", help="Ask for this key of the API, hex.")
@click.option("--signing-key-fallback", metavar="KEY", help="Signing key that is accepted too.")
@api_key_option
@click.option("--allow-insecure-host", is_flag=True, help="Listen where other machines can reach it, without keys.")
@click.option(
    "--no-discovery",
    is_flag=True,
    envvar=variables("--no-discovery"),
    help="Do not look for apps on the usual ports of this machine.",
)
@click.option("--json", "as_json", is_flag=True, help="Log one JSON object a line, on standard error.")
@config_option
@max_environments_option
@polling_options(5)
@patience_options
def command(
    apps: tuple[str, ...],
    host: str,
    port: int,
    db: str,
    reload: bool,
    retry_interval: float | None,
    event_keys: tuple[str, ...],
    signing_key: str | None,
    signing_key_fallback: str | None,
    api_keys: tuple[str, ...],
    allow_insecure_host: bool,
    no_discovery: bool,
    as_json: bool,
    max_environments: int,
    sdk_urls: tuple[str, ...],
    poll_interval: float,
    no_poll: bool,
    deny_vulnerable_sdks: bool,
    endpoint_silence: float,
    endpoint_grace: float,
) -> None:
    """Serve apps on this machine: events, REST, metrics, on one port, in one process, with one file.

    MODULE:APP names the app: shop.app:app, or shop/app.py:app, or without :app if the module has only one. Without
    it, apps that use an SDK of the protocol (INNGEST_DEV=1) register themselves, or are found on the usual ports.
    Functions whose app is not served stay registered; their runs wait. Keys are taken from options alone: what the
    environment holds for production does not lock a server for development.

    \b
    perdure dev shop.app:app
    perdure dev shop/app.py --db :memory: --port 8300
    perdure dev -u http://localhost:3000/api/inngest
    """

    keys = server_keys(event_keys, signing_key, signing_key_fallback, api_keys, environment=False)
    if keys is None and not allow_insecure_host and not _is_loopback(host):
        raise click.UsageError(
            f"--host {host} lets other machines in, and this server asks for no keys: anybody could run and cancel "
            "your functions. Give it --event-key and --signing-key (`perdure keys` makes a pair), or add "
            "--allow-insecure-host if that is what you want."
        )
    check_database(db)
    from perdure.cli.serving import Settings, serve
    from perdure.server import Guard

    guard = Guard(keys, local_only=keys is None and not allow_insecure_host)
    interval = None if retry_interval is None else max(1, int(retry_interval * 1000))
    serve(
        Settings(
            apps,
            host,
            port,
            db,
            reload and bool(apps),
            interval,
            guard,
            log_format="json" if as_json else "text",
            polling=polling(sdk_urls, poll_interval, no_poll, discovery=not no_discovery),
            deny_vulnerable_sdks=deny_vulnerable_sdks,
            patience=Patience(endpoint_silence, endpoint_grace),
            max_environments=max_environments,
        )
    )


def _is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address.

    >>> _is_loopback("localhost"), _is_loopback("::1"), _is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"

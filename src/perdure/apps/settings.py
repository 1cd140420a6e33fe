"""How a server deals with apps on other servers, as whoever started it wanted it."""

from __future__ import annotations

import msgspec


class Polling(msgspec.Struct, frozen=True):
    """`urls` are asked until an app is there, and known apps every `interval` seconds (0: never).

    With `discovery`, the usual ports of this machine are looked at until an app has registered; `port` is the
    server's own, `app_port` what $PORT says.
    """

    urls: tuple[str, ...] = ()
    interval: float = 5.0
    discovery: bool = False
    port: int = 0
    app_port: str = ""


class Patience(msgspec.Struct, frozen=True):
    """How long an app that answers the first request of an endpoint may be silent (seconds), before the request is made
    again: `silence` as a rule, `grace` after a restart of the server, when it may be dead or about to report."""

    silence: float = 600.0
    grace: float = 5.0

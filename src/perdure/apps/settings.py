"""How a server keeps apps on other servers synced, as whoever started it wanted it."""

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

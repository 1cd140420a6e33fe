"""Whether two URLs lead to the same app: hosts that all mean this machine, ports that go without saying, slashes."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_LOOPBACK: Final = "localhost"


def same_place(one: str, other: str) -> bool:
    """Whether two URLs are those of one app. An empty one is nobody's.

    >>> same_place("http://localhost:3000/api/inngest", "http://127.0.0.1:3000/api/inngest/")
    True
    """
    return bool(one and other) and (one == other or _place(one) == _place(other))


@lru_cache(maxsize=1024)
def _place(url: str) -> tuple[str, str, int, str]:
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
    except ValueError:
        return "", url, 0, ""
    return scheme, _host(host), port or _PORTS.get(scheme, 0), parts.path.rstrip("/")


def _host(name: str) -> str:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return _LOOPBACK if name == _LOOPBACK or name.endswith(".localhost") else name
    return _LOOPBACK if address.is_loopback or address.is_unspecified else name

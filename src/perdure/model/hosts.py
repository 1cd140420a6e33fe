"""Names of hosts: which of them can only mean this machine."""

from __future__ import annotations

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=64)
def is_local_host(host: str) -> bool:
    """Whether a Host header (with or without a port) can only mean this machine.

    So does 0.0.0.0, by which the test tools of an SDK call their server: names can be led elsewhere, addresses cannot.

    >>> is_local_host("localhost:8288"), is_local_host("0.0.0.0:8288"), is_local_host("rebound.example:8288")
    (True, True, False)
    """
    name, _, port = host.rpartition(":")
    # "[::1]" has colons and no port.
    if not name or not (port.isdecimal() or not port):
        name = host
    name = name.strip("[]").rstrip(".").lower()
    try:
        address = ipaddress.ip_address(name)
        return address.is_loopback or address.is_unspecified
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")

"""Finds apps on this machine: the ports and paths that frameworks use (part B.4).

Only ports that somebody listens on are asked, and only whether an SDK is there. A port where none is answers that it
does not know the path, which its log may show: it is asked less and less often.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from perdure.apps.asking import Asker

PORTS: Final = (
    80, 443, *range(3000, 3011), 4321, 5000, 5173, 8000, 8080, 8081, 8787, 8888, *range(8910, 8916),
)  # fmt: skip
PATHS: Final = ("/api/inngest", "/x/inngest", "/.netlify/functions/inngest", "/.redwood/functions/inngest")

_CONNECT_WITHIN: Final = 0.5
_ANSWER_WITHIN: Final = 2.0
_FIRST_PAUSE: Final = 5.0
_LONGEST_PAUSE: Final = 60.0


class Discovery:
    """Looks for apps on this machine. `own_port` is the server's own; `app_port` is what $PORT says."""

    def __init__(self, asker: Asker, own_port: int, app_port: str = "", ports: tuple[int, ...] = PORTS) -> None:
        self._asker = asker
        more = (int(app_port),) if app_port.isdecimal() and 0 < int(app_port) < 65536 else ()
        self._ports = [port for port in dict.fromkeys(ports + more) if port != own_port]
        self._pauses: dict[int, tuple[float, float]] = {}

    async def scan(self, now: float) -> list[str]:
        """The URLs at which SDKs answer. `now` is a time in seconds that only grows."""
        due = [port for port in self._ports if self._pauses.get(port, (0.0, 0.0))[0] <= now]
        found = await asyncio.gather(*(self._look(port, now) for port in due))
        return [url for url in found if url is not None]

    async def _look(self, port: int, now: float) -> str | None:
        if not await _is_open(port):
            self._pauses.pop(port, None)
            return None
        for path in PATHS:
            # Under this name an app is found whichever of the loopback addresses it listens on.
            url = f"{'https' if port == 443 else 'http'}://localhost{'' if port in (80, 443) else f':{port}'}{path}"
            try:
                answer = await self._asker.get(url, timeout=_ANSWER_WITHIN)
            except OSError:
                break
            if answer.of_sdk:
                return url
        pause = min(2 * self._pauses[port][1], _LONGEST_PAUSE) if port in self._pauses else _FIRST_PAUSE
        self._pauses[port] = (now + pause, pause)
        return None


async def _is_open(port: int) -> bool:
    """Whether anybody listens on a port of this machine."""
    for host in ("127.0.0.1", "::1"):
        try:
            async with asyncio.timeout(_CONNECT_WITHIN):
                _, writer = await asyncio.open_connection(host, port)
        except (OSError, TimeoutError):
            continue
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True
    return False

"""Connections on which an app may not put off its answer without end.

An app can send interim answers (1xx) for as long as it likes: no body grows and no time limit of a read passes, but
each has to be parsed, and the work of everybody else would wait for that. After a few, the connection is given up.
Imported when the first call is made, for it needs aiohttp.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader

_MAX_INTERIM: Final = 20


class _Connection(ResponseHandler):
    """A connection that counts the interim answers to a request."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._interim = 0

    async def read(self) -> tuple[RawResponseMessage, StreamReader]:
        """The next message. Raises `aiohttp.ClientError`."""
        message, content = await super().read()
        self._interim = self._interim + 1 if 100 <= message.code < 200 else 0
        if self._interim > _MAX_INTERIM:
            raise aiohttp.ClientPayloadError(f"{self._interim} interim answers (HTTP {message.code}) and no answer")
        return message, content


class Connector(aiohttp.TCPConnector):
    """As many such connections as are needed; one that is not in use is kept for `idle` seconds."""

    def __init__(self, idle: float) -> None:
        super().__init__(limit=0, keepalive_timeout=idle)
        make: type[ResponseHandler] = _Connection
        self._factory = partial(make, loop=asyncio.get_running_loop())

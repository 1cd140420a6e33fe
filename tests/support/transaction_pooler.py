"""A pooler that gives out sessions of PostgreSQL by the transaction, and never the same one twice in a row.

It knows just enough of the protocol: a Query or a Sync is answered with ReadyForQuery, and one that says "idle"
ends a transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

_STARTED = (
    b"R\0\0\0\x08\0\0\0\0"
    + b"".join(
        b"S" + (len(pair) + 4).to_bytes(4, "big") + pair
        for pair in (b"server_version\0" + b"18.0\0", b"client_encoding\0UTF8\0", b"standard_conforming_strings\0on\0")
    )
    + b"K\0\0\0\x0c\0\0\0\x01\0\0\0\x01"
    + b"Z\0\0\0\x05I"
)


class TransactionPooler:
    """Listens on a port of its own; `sessions` are all that there are for any number of clients."""

    def __init__(self, port: int, database: str, sessions: int = 3) -> None:
        self._target = port
        self._database = database
        self._count = sessions
        self._idle: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()
        self._free = asyncio.Semaphore(sessions)
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()
        self.transactions = 0

    async def start(self) -> str:
        """The URL for its clients."""
        for _ in range(self._count):
            self._idle.append(await self._session())
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"postgresql://postgres@127.0.0.1:{self._server.sockets[0].getsockname()[1]}/{self._database}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in (*self._clients, *(writer for _, writer in self._idle)):
            writer.transport.abort()
        await asyncio.sleep(0.05)

    async def _session(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._target)
        body = b"\0\x03\0\0user\0postgres\0database\0" + self._database.encode() + b"\0\0"
        writer.write((len(body) + 4).to_bytes(4, "big") + body)
        while (await _message(reader))[:1] != b"Z":
            pass
        return reader, writer

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        asked: asyncio.Queue[bytes] = asyncio.Queue()
        reading: asyncio.Task[None] | None = None
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                await _start(reader, writer)
                reading = asyncio.create_task(_read(reader, asked))
                while first := await asked.get():
                    await self._transaction(first, asked, writer)
        finally:
            if reading is not None:
                reading.cancel()
            self._clients.discard(writer)
            writer.transport.abort()

    async def _transaction(self, first: bytes, asked: asyncio.Queue[bytes], writer: asyncio.StreamWriter) -> None:
        async with self._free:
            session = self._idle.popleft()
            self.transactions += 1
            broken = True
            try:
                broken = not await _pass_on(session, first, asked, writer)
            finally:
                if broken:
                    session[1].transport.abort()
                    session = await self._session()
                self._idle.append(session)


async def _start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        length = int.from_bytes(await reader.readexactly(4), "big")
        body = await reader.readexactly(length - 4)
        if body[:4] == b"\0\x03\0\0":
            writer.write(_STARTED)
            return
        # Asked for encryption.
        writer.write(b"N")


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(5)
    return head + await reader.readexactly(int.from_bytes(head[1:], "big") - 4)


async def _read(reader: asyncio.StreamReader, asked: asyncio.Queue[bytes]) -> None:
    """Queues what a client sends; nothing, when it has left."""
    with contextlib.suppress(asyncio.IncompleteReadError, OSError):
        while (message := await _message(reader))[:1] != b"X":
            asked.put_nowait(message)
    asked.put_nowait(b"")


async def _pass_on(
    session: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    message: bytes,
    asked: asyncio.Queue[bytes],
    writer: asyncio.StreamWriter,
) -> bool:
    """Passes messages on, both ways, until no transaction is open; False if the client left in the middle of one."""
    asking: asyncio.Task[bytes] = asyncio.create_task(asked.get())
    answering = asyncio.create_task(_message(session[0]))
    unanswered = 0
    try:
        while True:
            session[1].write(message)
            unanswered += message[:1] in (b"Q", b"S")
            while not asking.done():
                await asyncio.wait((asking, answering), return_when=asyncio.FIRST_COMPLETED)
                if answering.done():
                    answer = answering.result()
                    writer.write(answer)
                    unanswered -= answer[:1] == b"Z"
                    if answer[:1] == b"Z" and not unanswered and answer[5:] == b"I":
                        if asking.done():
                            _put_back(asked, asking.result())
                        await writer.drain()
                        return True
                    answering = asyncio.create_task(_message(session[0]))
            message = asking.result()
            if not message:
                asked.put_nowait(b"")
                return False
            asking = asyncio.create_task(asked.get())
    finally:
        asking.cancel()
        answering.cancel()


def _put_back(asked: asyncio.Queue[bytes], message: bytes) -> None:
    later = [asked.get_nowait() for _ in range(asked.qsize())]
    for each in (message, *later):
        asked.put_nowait(each)

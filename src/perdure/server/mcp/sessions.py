"""Sessions of clients of the older revisions: what such a client said of itself once, and what it listens to.

The id of a session is what the client said, sealed; so every process knows every session, and it outlives them. Kept
in memory is only what belongs to open connections, and what may be lost: the questions that wait for an answer, the
level of logs, and which resources are watched. Who may come in is decided for each request, not by a session.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from perdure.model.json import Json, encode
from perdure.server.mcp.seals import BrokenSealError, Seals

LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
KEY: Final = "perdure.mcp.session"
"""Where the session of a request is in its scope."""
_KEPT = 10_000
_ASKED = ("elicitation", "sampling", "roots")
_PURPOSE = "session"
_LONGEST = 300
Look: TypeAlias = Callable[[], Awaitable[bytes]]
"""Tells whether something changed: what it gives is another then."""


class Session:
    """What is kept of a session in this process. `capabilities`: by which ways its client can be asked."""

    def __init__(self, id: str, revision: str, capabilities: Json) -> None:
        self.id = id
        self.revision = revision
        self.capabilities = capabilities
        self.level = "info"
        self.watched: dict[str, tuple[bytes, Look]] = {}
        self.tell: Callable[[str], Awaitable[None]] | None = None
        """Tells of a change where there is no standing stream."""
        self.cancels: dict[Json, Callable[[], None]] = {}
        """How the requests that are being answered are cancelled, by their ids."""
        self._questions: dict[str, asyncio.Future[Json]] = {}

    def wants(self, level: str) -> bool:
        """Whether its client wants to read logs of a level."""
        return LEVELS.index(level) >= LEVELS.index(self.level)

    def question(self) -> tuple[str, asyncio.Future[Json]]:
        """A question to be asked: its id, and what will be the message that answers it."""
        id = f"ask-{secrets.token_hex(8)}"
        self._questions[id] = answer = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda _: self._questions.pop(id, None))
        return id, answer

    def answer(self, message: dict[str, Json]) -> bool:
        """Takes the answer to a question; False if there is no such question here."""
        waiting = self._questions.get(str(message.get("id")))
        if waiting is None or waiting.done():
            return False
        waiting.set_result(message)
        return True

    async def watch(self, uri: str, look: Look) -> None:
        """Watches a resource from now on."""
        self.watched[uri] = (await look(), look)

    async def changed(self) -> list[str]:
        """Which of the watched resources are other than when this was asked last."""
        found = []
        for uri, (before, look) in list(self.watched.items()):
            now = await look()
            if now != before and uri in self.watched:
                self.watched[uri] = (now, look)
                found.append(uri)
        return found


def _short(capability: dict[str, Json]) -> dict[str, Json]:
    """What a client says of a capability, unless that is too long for a header."""
    return capability if len(encode(capability)) <= _LONGEST else {}


class Sessions:
    """The sessions of a server."""

    def __init__(self, seals: Seals) -> None:
        self._seals = seals
        self._kept: OrderedDict[str, Session | None] = OrderedDict()
        """None is kept for those that their clients ended."""

    def begin(self, revision: str, capabilities: dict[str, Json]) -> Session:
        """A new session."""
        asked = {name: _short(capabilities[name]) for name in _ASKED if isinstance(capabilities.get(name), dict)}
        id = self._seals.seal(_PURPOSE, [revision, asked, secrets.token_hex(8)])
        return self._keep(Session(id, revision, asked))

    def find(self, id: str) -> Session | None:
        """The session with this id, if it was begun by a server with our secret and not ended here."""
        if id in self._kept:
            self._kept.move_to_end(id)
            return self._kept[id]
        try:
            revision, asked, _ = self._seals.open(_PURPOSE, id)
        except BrokenSealError:
            return None
        return self._keep(Session(id, revision, asked))

    def end(self, session: Session) -> None:
        """Ends a session: it is not known from now on."""
        session.watched.clear()
        self._kept[session.id] = None

    def _keep(self, session: Session) -> Session:
        self._kept[session.id] = session
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return session

"""The door before the doors: a request goes to the environment that it names, each of which has a server of its own.

It is named by `x-inngest-env`; by the token, where that takes the place of a key, for browsers and workers send no such
header; or by `?env=`, which addresses that the server gives out have. Without a name it is the main environment, and
so it is with what is about the server itself. Whoever may not come into an environment does not learn whether there is
one: the guard is asked first. One that is not there is made by the first who has its keys, or on a server without
keys by anybody but pages of elsewhere, with what begins something: events, a registration, a connection, an
endpoint's run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Final, Protocol
from urllib.parse import parse_qs

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perdure.model.environments import HEADER, MAIN_ID, environment_id, fault, is_main
from perdure.model.errors import StoreError
from perdure.model.keys import Keys
from perdure.server import account
from perdure.server.app import UNKNOWN_KEY, answer_headers
from perdure.server.auth import Guard, is_foreign_page, takes_token
from perdure.server.bodies import header, route_path
from perdure.server.envelope import ApiError, error_reply, is_events, reply
from perdure.server.permissions import has_role
from perdure.server.sockets import Handshake, refuse
from perdure.server.tokens import claimed

_log = logging.getLogger("perdure.server")

_BEGINS: Final = frozenset(
    {"/fn/register", "/v0/connect/start", "/v1/checkpoint", "/v1/http/runs", "/v2/events", "/api/v2/events"}
)
_OF_THE_SERVER: Final = ("/health", "/page/", "/v2/envs", "/api/v2/envs")
_GUARDS: Final = 256
_MISLED: Final = (
    "Event key not found in environment {name}: it is one of the main environment; `perdure env keys` tells those of "
    "others, and INNGEST_ENV=production of the sender means the main one"
)


class Environments(account.Environments, Protocol):
    """The branch environments of a server, and the server of each."""

    def opened(self, name: str) -> ASGIApp | None:
        """The server of an environment that is there and was asked for before."""
        ...

    async def open(self, name: str, *, make: bool) -> ASGIApp:
        """The server of an environment. Raises `ApiError`, also where there is none and `make` does not make one."""
        ...


class EnvironmentDoor:
    """Sends requests to the servers of environments. `main` is that of the main one, behind `guard`."""

    def __init__(self, main: ASGIApp, guard: Guard, environments: Environments, now: Callable[[], int]) -> None:
        self._main = main
        self._guard = guard
        self._environments = environments
        self._now = now
        self._guard_of = lru_cache(_GUARDS)(guard.of_environment)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._app(scope) if scope["type"] in ("http", "websocket") else self._main
        if isinstance(answer, Response):
            await self._refuse(answer, scope, receive, send)
        else:
            await answer(scope, receive, send)

    async def _app(self, scope: Scope) -> ASGIApp | Response:
        name = ""
        try:
            name = await self._named(scope)
            if is_main(name):
                return self._main
            if self._is_misled(route_path(scope)):
                return reply({**UNKNOWN_KEY, "error": _MISLED.format(name=name)}, 401)
            return self._environments.opened(name) or await self._opened(name, scope)
        except ApiError as error:
            return error_reply(route_path(scope), error)
        except StoreError as error:
            _log.error("the environment %s cannot be opened: %s", name, error)
            text = "the environment cannot be opened now; the server's log says why"
            return error_reply(route_path(scope), ApiError(503, text), {"retry-after": "1"})

    def _is_misled(self, path: str) -> bool:
        """Whether events come to a branch environment with a key of the main one: it opens nothing there."""
        keys = self._guard.keys
        return keys is not None and is_events(path) and keys.knows_event_key(path[3:])

    async def _named(self, scope: Scope) -> str:
        path = route_path(scope)
        if path == "/" or path.startswith(_OF_THE_SERVER):
            return ""
        asked = scope["query_string"]
        if takes_token(path):
            query = parse_qs(asked.decode("latin-1"))
            bearer = header(scope, b"authorization").removeprefix("Bearer ")
            token = (query.get("token") or [bearer])[0]
            id = (query.get("env") or [claimed(token, "env") or claimed(token, "Env")])[0]
            if id:
                return await self._name_of(id)
        return header(scope, HEADER.encode())

    async def _name_of(self, id: str) -> str:
        if id == MAIN_ID:
            return ""
        names = [row.name for row in await self._environments.rows() if environment_id(row.name) == id]
        # No environment has an id as its name: whoever asks for one that is gone is told that there is none.
        return names[0] if names else id

    async def _opened(self, name: str, scope: Scope) -> ASGIApp | Response:
        path = route_path(scope)
        if problem := fault(name):
            raise ApiError(400, f"{HEADER}: {problem}")
        guard = self._guard_of(name)
        if refusal := guard.refusal(path, scope, self._now):
            return refusal
        if is_events(path):
            if not guard.knows_event_key(path[3:]):
                return reply(UNKNOWN_KEY, 401)
        elif guard.keys is not None and not has_role(scope):
            # Nobody asked for a key: the answer is that of the main environment, which has no such session, or token.
            return self._main
        return await self._environments.open(name, make=self._may_make(name, path, scope))

    def _may_make(self, name: str, path: str, scope: Scope) -> bool:
        if scope["type"] != "http" or scope["method"] != "POST" or not (is_events(path) or path in _BEGINS):
            return False
        if self._guard.keys is None:
            return not is_foreign_page(scope)
        own = Keys(*self._guard.keys.own(name))
        if is_events(path):
            return own.knows_event_key(path[3:])
        return own.role_of(header(scope, b"authorization").partition(" ")[2].strip()) is not None

    async def _refuse(self, answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
        extra = answer_headers(scope, self._guard.kind)
        if scope["type"] == "websocket":
            await refuse(answer, scope, receive, Handshake(send, extra).send)
            return

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        await answer(scope, receive, told)

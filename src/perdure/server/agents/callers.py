"""Whoever asks an agents door: a user whom the app knows by a token, or a caller with a key of the server.

An app names its users with `app.set_users` (`sdk/users.py`). A request that shows none of the server's keys must then
bear a token that the app knows. What belongs to a user is kept apart by the resource id that the app gives: it takes
the place of every resource that the request names, so that nobody reaches what is somebody else's.

Invariant: keys of a request context that begin with `mastra__` are set here and nowhere else.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias
from urllib.parse import parse_qsl, urlencode

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from perdure.agents.errors import AccessDeniedError
from perdure.agents.starting import USERS_RESOURCE
from perdure.model.errors import ConfigError
from perdure.model.json import Json
from perdure.model.roles import Role
from perdure.sdk.app import App
from perdure.sdk.users import Users
from perdure.server.backend import Backend
from perdure.server.bodies import header, route_path
from perdure.server.envelope import reply
from perdure.server.permissions import forbidden, grant, has_role, is_doubted, role_for

_log = logging.getLogger("perdure.server")
_CALLER: Final = "perdure.caller"
_OWNER_OF: Final = "perdure.owner_of"
_RESERVED: Final = "mastra__"
_OPTIONS: Final = "streamOptions"
"""The field of a body, or of its `ifIdle`, that has options of a run in it."""


OwnerOf: TypeAlias = Callable[[Json, str], Awaitable[str | None]]
"""Gives the resource that a run belongs to, from its agent's id and its own; None where it belongs to nobody."""


class Caller(msgspec.Struct):
    """A user of an app. `resource`: what the user's threads and runs belong to; None where requests are believed.

    `apps`: the users of all apps that know this one by the same token, resource and role.
    """

    user: Json
    resource: str | None = None
    apps: list[Users] = []


class RefusedCallError(Exception):
    """A request that may not come in: its status, and what is told."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class Callers:
    """Stands before the routes of the room: who asks is known when they are asked."""

    def __init__(self, room: ASGIApp, backend: Backend, owner_of: OwnerOf) -> None:
        self._room = room
        self._backend = backend
        self._owner_of = owner_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = route_path(scope)
        users = self._users(path) if scope["type"] == "http" else []
        # Who has shown a key of the server speaks for anybody.
        if (users or is_doubted(scope)) and not has_role(scope):
            try:
                caller, role = await _known(users, scope)
                needed = role_for(scope["method"], path)
                if not role.allows(needed):
                    raise RefusedCallError(403, forbidden(needed, role).message)
            except RefusedCallError as refused:
                await reply({"error": str(refused)}, refused.status)(scope, receive, send)
                return
            grant(scope, role)
            scope[_CALLER], scope[_OWNER_OF] = caller, self._owner_of
            if caller.resource is not None:
                scope["query_string"] = _owned_query(scope["query_string"], caller.resource)
        await self._room(scope, receive, send)

    def _users(self, path: str) -> list[Users]:
        """The users of the app whose agent is asked, or those of all apps."""
        offered = self._backend.agents
        parts = path.strip("/").split("/")
        named = parts[2] if parts[:2] == ["api", "agents"] and len(parts) > 2 else None
        if parts[0] in ("chat", "network") and len(parts) > 1:
            named = parts[1]
        found = [offered[named]] if named is not None and named in offered else list(offered.values())
        known = [app.users for _, app in found]
        # An app without users lets nobody past those of another one.
        return [each for each in dict.fromkeys(known) if each is not None]


async def _known(users: Sequence[Users], scope: Scope) -> tuple[Caller, Role]:
    """The user that a request comes from. Raises `RefusedCallError`."""
    token, found = _token(scope), None
    for each in users:
        user = await _user(each, token) if token else None
        if user is None:
            continue
        try:
            caller, role = await _authorized(each, user, scope)
        except RefusedCallError:
            if found is None:
                raise
            continue
        if found is None:
            found = caller, role
        if (caller.resource, role) == (found[0].resource, found[1]):
            found[0].apps.append(each)
    if found is None:
        raise RefusedCallError(401, "Invalid or expired token")
    return found


async def _authorized(users: Users, user: Json, scope: Scope) -> tuple[Caller, Role]:
    """A user, as a caller. Raises `RefusedCallError`."""
    try:
        allowed = users.authorize is None or await _settled(users.authorize(user, scope["method"], route_path(scope)))
        role = Role.OPERATOR if users.role is None else Role.parse(await _settled(users.role(user)))
        resource = None if users.resource is None else await _settled(users.resource(user))
        # It travels with runs, as data.
        user = msgspec.to_builtins(user, str_keys=True)
    except ConfigError as error:
        _log.error("the role of a user is none: %s", error)
        raise RefusedCallError(500, "Authorization error") from error
    except Exception as error:
        # It is the app's own code, and may fail in any way; nobody comes in because of that.
        _log.exception("a user could not be authorized")
        raise RefusedCallError(500, "Authorization error") from error
    if not allowed:
        raise RefusedCallError(403, "Access denied")
    if users.resource is not None and (not isinstance(resource, str) or not resource):
        raise RefusedCallError(403, "Access denied")
    return Caller(user, resource), role


async def _user(users: Users, token: str) -> Json:
    try:
        return await _settled(users.authenticate(token))
    except Exception as error:
        # Libraries for tokens tell by an error that one is not good.
        _log.debug("a token was not accepted: %s", type(error).__name__)
        return None


async def _settled(outcome: Json) -> Json:
    return await outcome if inspect.isawaitable(outcome) else outcome


def _token(scope: Scope) -> str:
    shown: str = header(scope, b"authorization").strip()
    scheme, _, bearer = shown.partition(" ")
    if shown:
        return bearer.strip() if scheme.lower() == "bearer" else shown
    asked = dict(parse_qsl(str(scope["query_string"], "latin-1")))
    return asked.get("apiKey", "")


def _owned_query(query: bytes, resource: str) -> bytes:
    kept = [pair for pair in parse_qsl(query.decode("latin-1"), keep_blank_values=True) if pair[0] != "resourceId"]
    return urlencode([*kept, ("resourceId", resource)]).encode("ascii")


def caller_of(request: Request) -> Caller | None:
    """The user that a request comes from; None where it comes from a caller with a key, or nobody asks."""
    found: Caller | None = request.scope.get(_CALLER)
    return found


def may_use(scope: Scope, app: App) -> bool:
    """Whether a caller may use the agents of an app: users of one app have nothing to do with those of another."""
    caller: Caller | None = scope.get(_CALLER)
    return caller is None or app.users in caller.apps


def resource_of(request: Request) -> str | None:
    """The resource that the caller is kept to; None where requests are believed."""
    caller = caller_of(request)
    return None if caller is None else caller.resource


def check_owner(request: Request, owner: str | None) -> None:
    """Raises `AccessDeniedError` where something belongs to somebody else; what belongs to nobody is let pass."""
    resource = resource_of(request)
    if resource is not None and owner not in (None, resource):
        raise AccessDeniedError("Access denied: it belongs to a different resource")


async def check_run(request: Request, run_id: str) -> None:
    """Raises `AccessDeniedError` where a run belongs to somebody else."""
    if resource_of(request) is not None:
        check_owner(request, await request.scope[_OWNER_OF](request.path_params.get("agent"), run_id))


def owned(request: Request, body: dict[str, Json]) -> dict[str, Json]:
    """A body in which the resources are the caller's, and the request context has what only the server may set."""
    found = _owned_options(request, body)
    idle: Json = found.get("ifIdle")
    if isinstance(idle, dict) and isinstance(idle.get(_OPTIONS), dict):
        found["ifIdle"] = {**idle, _OPTIONS: _owned_options(request, idle[_OPTIONS])}
    if isinstance(found.get(_OPTIONS), dict):
        found[_OPTIONS] = _owned_options(request, found[_OPTIONS])
    resource = resource_of(request)
    if resource is None:
        return found
    found["resourceId"] = resource
    if isinstance(found.get("messages"), list):
        found["messages"] = [_owned_message(each, resource) for each in found["messages"]]
    return found


def _owned_options(request: Request, options: dict[str, Json]) -> dict[str, Json]:
    caller, resource = caller_of(request), resource_of(request)
    found = dict(options)
    given: Json = found.get("requestContext")
    if isinstance(given, dict) or (caller is not None and given is None):
        found["requestContext"] = context(request, given)
    if resource is not None and isinstance(found.get("memory"), dict):
        found["memory"] = {**found["memory"], "resource": resource}
    return found


def context(request: Request, given: Json) -> dict[str, Json]:
    """A request context as the caller gave it, with what only the server may set."""
    caller = caller_of(request)
    found = {key: value for key, value in (given if isinstance(given, dict) else {}).items() if not reserved(key)}
    if caller is not None:
        found["mastra__user"] = caller.user
        if caller.resource is not None:
            found[USERS_RESOURCE] = caller.resource
    return found


def reserved(key: str) -> bool:
    """Whether a key of a request context is one that only the server may set."""
    return key.startswith(_RESERVED)


def _owned_message(message: Json, resource: str) -> Json:
    return {**message, "resourceId": resource} if isinstance(message, dict) and "resourceId" in message else message

"""Signing in: a page shows a key once, and gets a cookie with which it asks from then on.

`POST /session` takes `{"key": "..."}`, a signing key or an API key; `GET /session` tells who asks, `DELETE /session`
takes the cookie back. The cookie holds a signed token that names no key, ends after twelve hours, and is good only
while its key is among the server's. It is HttpOnly and SameSite=Strict, and the guard takes it only from pages of the
server's own origin (`is_own_page`): a browser says where a request comes from, and what says nothing may only read.
Whoever guesses is held up by address.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from perdure.model.keys import Keys
from perdure.model.limits import HOUR, SECOND
from perdure.model.roles import Role
from perdure.server.backend import Backend
from perdure.server.bodies import header, read_fields, text_field
from perdure.server.envelope import ApiError, reply
from perdure.server.tokens import Claims, TokenError, sign, verify

PATH: Final = "/session"
COOKIE: Final = "perdure_session"
LIFETIME: Final = 12 * HOUR
"""How long a session lasts (ms)."""
_ISSUER: Final = "perdure session"
_GUESSES: Final = 10
"""How many wrong keys an address may show in a row; from then on one each pause (ms)."""
_PAUSE: Final = 6 * SECOND
_ADDRESSES: Final = 4096


def routes(backend: Backend, keys: Keys | None) -> list[Route]:
    """The routes of sessions. Without keys everybody is an admin, and nobody need sign in."""
    api = _Api(backend, keys)
    return [
        Route(PATH, api.sign_in, methods=["POST"]),
        Route(PATH, api.tell, methods=["GET"]),
        Route(PATH, api.sign_out, methods=["DELETE"]),
    ]


def role_in(scope: Scope, keys: Keys, now: int) -> Role | None:
    """The role of the session that a request belongs to; None without a good one."""
    token = _cookie(scope)
    if not token or not is_own_page(scope):
        return None
    try:
        claims = verify(token, keys.session_secret(), issuer=_ISSUER, now=now)
    except TokenError:
        return None
    return keys.role_of_mark(claims.subject)


def is_own_page(scope: Scope) -> bool:
    """Whether a request comes from a page of the server itself, or only reads, and a browser's user asked for it.

    Cookies go along with what other ports of the same host ask for, too: SameSite does not tell ports apart.
    """
    reads = scope.get("method", "GET") in ("GET", "HEAD") and scope["type"] == "http"
    fetched_from, origin = header(scope, b"sec-fetch-site"), header(scope, b"origin")
    if fetched_from:
        return fetched_from == "same-origin" or (reads and fetched_from == "none")
    if origin:
        return origin.partition("://")[2] == header(scope, b"host") != ""
    return reads


class _Api:
    def __init__(self, backend: Backend, keys: Keys | None) -> None:
        self._clock = backend.clock
        self._keys = keys
        self._guesses = Guesses()

    async def sign_in(self, request: Request) -> Response:
        if (header(request.scope, b"origin") or header(request.scope, b"sec-fetch-site")) and not is_own_page(
            request.scope
        ):
            raise ApiError(403, "only a page of this server may sign in from a browser", "forbidden")
        key = text_field(await read_fields(request.scope, request.receive, "key"), "key")
        if self._keys is None:
            return _told(Role.ADMIN, signs_in=False)
        now = self._clock.now()
        address = request.client.host if request.client else ""
        wait = self._guesses.wait(address, now)
        if wait:
            seconds = -(-wait // SECOND)
            refusal = {"error": f"too many wrong keys: try again in {seconds} s", "data": None, "status": 429}
            return reply(refusal, 429, {"retry-after": str(seconds)})
        role, mark = self._keys.role_of(key or ""), self._keys.mark_of(key or "")
        if role is None or mark is None:
            self._guesses.wrong(address, now)
            raise ApiError(401, "this is none of the server's keys: take its signing key, or one of its API keys")
        claims = Claims(_ISSUER, mark, "", {})
        token = sign(claims, self._keys.session_secret(), now=now, lifetime=LIFETIME)
        answer = _told(role, signs_in=True)
        _set(request, answer, token, LIFETIME // SECOND)
        return answer

    async def tell(self, request: Request) -> Response:
        if self._keys is None:
            return _told(Role.ADMIN, signs_in=False)
        scheme, _, bearer = header(request.scope, b"authorization").partition(" ")
        role = self._keys.role_of(bearer.strip()) if scheme.lower() == "bearer" else None
        return _told(role or role_in(request.scope, self._keys, self._clock.now()), signs_in=True)

    async def sign_out(self, request: Request) -> Response:
        if not is_own_page(request.scope) and _cookie(request.scope):
            raise ApiError(403, "only a page of this server may sign out", "forbidden")
        answer = Response(status_code=204)
        _set(request, answer, "", 0)
        return answer


class Guesses:
    """Counts wrong keys by address: ten are free, and one more each six seconds. Nothing is kept of those it forgets.

    >>> guesses = Guesses()
    >>> for _ in range(10):
    ...     guesses.wrong("192.0.2.1", 0)
    >>> guesses.wait("192.0.2.1", 0), guesses.wait("192.0.2.1", 6_000), guesses.wait("192.0.2.2", 0)
    (6000, 0, 0)
    """

    def __init__(self) -> None:
        self._paid_until: OrderedDict[str, int] = OrderedDict()

    def wait(self, address: str, now: int) -> int:
        """How long (ms) an address must wait before it may try a key."""
        return max(0, self._paid_until.get(_network(address), 0) - now - (_GUESSES - 1) * _PAUSE)

    def wrong(self, address: str, now: int) -> None:
        """An address has shown a wrong key."""
        network = _network(address)
        self._paid_until[network] = max(self._paid_until.pop(network, 0), now) + _PAUSE
        if len(self._paid_until) > _ADDRESSES:
            self._paid_until.popitem(last=False)


def _network(address: str) -> str:
    """What one caller has: a whole /64 of IPv6."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return address if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))


def _told(role: Role | None, *, signs_in: bool) -> Response:
    body = {"role": None if role is None else role.word, "signsIn": signs_in}
    return reply(body, headers={"cache-control": "no-store"})


def _set(request: Request, answer: Response, value: str, seconds: int) -> None:
    forwarded = request.headers.get("x-forwarded-proto", "").split(",")[0].strip()
    answer.set_cookie(
        COOKIE,
        value,
        max_age=seconds,
        path=request.scope.get("root_path") or "/",
        secure="https" in (request.url.scheme, forwarded),
        httponly=True,
        samesite="strict",
    )


def _cookie(scope: Scope) -> str:
    for each in header(scope, b"cookie").split(";"):
        name, _, value = each.strip().partition("=")
        if name == COOKIE:
            return value
    return ""

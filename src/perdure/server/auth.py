"""Who may come in: the one check that every request passes before any route sees it.

With keys, `/e/{key}` asks for an event key and all else for a bearer, the signing key or an API key, whose role must
allow what is asked (`permissions.py`); routes that do not exist yet included. A page of the server may show the cookie
of a session instead (`session.py`). Open are `/health` and what is below it, `/session`, the files of pages, which are
the same for all, and CORS preflights, which carry no credentials; what subscribers and workers connect to asks for a
token that a caller with the key got for them. Without keys the server is for this machine alone: it then answers only
to local host names, because a web page can make its own name lead to 127.0.0.1 (DNS rebinding) and would get past the
browser's rules under that name. Nor may pages of other origins operate it, for some requests a browser sends without
asking first; what SDKs do in pages stays open to them: to send events, to listen with a token, and to come for an
answer with one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from starlette.responses import Response
from starlette.types import Scope

from perdure.model.environments import MAIN_ID, environment_id
from perdure.model.hosts import is_local_host
from perdure.model.keys import Keys
from perdure.model.roles import Role
from perdure.server import session
from perdure.server.bodies import header
from perdure.server.envelope import ApiError, error_reply, is_agents, is_events, reply
from perdure.server.permissions import forbidden, grant, role_for

ServerKind = Literal["dev", "cloud"]

_OPEN_PATHS = frozenset({"/health", "/health/", "/health/live", "/health/ready", "/perdure-stream.js", session.PATH})
_TOKEN_PATHS = frozenset({"/v1/realtime/connect", "/v1/realtime/sse", "/v0/connect"})
"""Their routes ask for a token of their own: a browser cannot send headers with a WebSocket or an EventSource."""
_PAGE_PATHS = (_OPEN_PATHS - {session.PATH}) | {"/v1/realtime/connect", "/v1/realtime/sse"}
"""What pages of any origin may ask of a server without keys, besides sending events."""


class Guard:
    """What a server asks of its callers. `kind` is what the server calls itself: "dev", or "cloud" in production.

    `keys`: what callers must show; None asks for nothing. `local_only`: refuse requests for other host names than
    those of this machine. `environment_id`: which environment it stands before, for tokens.
    """

    def __init__(
        self,
        keys: Keys | None = None,
        *,
        kind: ServerKind = "dev",
        local_only: bool = False,
        environment_id: str = MAIN_ID,
    ) -> None:
        self.keys = keys
        self.kind: Final = kind.encode()
        self.environment_id: Final = environment_id
        self._local_only = local_only

    def of_environment(self, name: str) -> Guard:
        """The guard of a branch environment of the server."""
        keys = None if self.keys is None else self.keys.environment(name)
        kind: ServerKind = "dev" if self.kind == b"dev" else "cloud"
        return Guard(keys, kind=kind, local_only=self._local_only, environment_id=environment_id(name))

    def refusal(self, path: str, scope: Scope, now: Callable[[], int]) -> Response | None:
        """The answer to a request that may not come in; None lets it in, with the role of whoever makes it.

        `now`: the time (ms), for sessions. Event keys are `knows_event_key`'s.
        """
        if self.keys is None and not _is_for_pages(path) and is_foreign_page(scope):
            return error_reply(path, ApiError(403, _FOREIGN_PAGE))
        if self._local_only:
            host = header(scope, b"host")
            if host and not is_local_host(host):
                return error_reply(path, ApiError(403, _FOREIGN_HOST))
        if self.keys is None or path in _OPEN_PATHS or is_events(path) or scope.get("method") == "OPTIONS":
            return None
        if takes_token(path) or _is_file_of_page(path, scope):
            return None
        role = self._role(self.keys, scope, now)
        if role is None:
            return _unknown(path)
        # An admin may do everything: apps elsewhere come as such, and often.
        if role is not Role.ADMIN:
            needed = role_for(scope.get("method", "GET"), path)
            if not role.allows(needed):
                return error_reply(path, forbidden(needed, role), _PLAIN)
        grant(scope, role)
        return None

    def _role(self, keys: Keys, scope: Scope, now: Callable[[], int]) -> Role | None:
        scheme, _, bearer = header(scope, b"authorization").partition(" ")
        if scheme:
            return keys.role_of(bearer.strip()) if scheme.lower() == "bearer" else None
        return session.role_in(scope, keys, now())

    def secret(self, purpose: str, installation: Callable[[str], bytes]) -> bytes:
        """What tokens of a kind are signed with: made from the keys, or else the installation's own secret."""
        return installation(purpose) if self.keys is None else self.keys.derive(purpose)

    def knows_event_key(self, key: str) -> bool:
        """Whether events may come in under a key."""
        return self.keys is None or self.keys.knows_event_key(key)


def takes_token(path: str) -> bool:
    """Whether the route of a path asks for a token of its own instead of a key."""
    return path in _TOKEN_PATHS or _is_output(path)


def _unknown(path: str) -> Response:
    headers = {**_PLAIN, "www-authenticate": "Bearer"}
    if is_agents(path):
        return reply({"error": "Invalid or expired token"}, 401, headers)
    return Response("Authentication failed\n", 401, headers, "text/plain")


def _is_file_of_page(path: str, scope: Scope) -> bool:
    """Whether a file of the server's own page is asked for: whoever is to sign in needs it before."""
    return scope.get("method") in ("GET", "HEAD") and (path == "/" or path.startswith("/page/"))


def _is_for_pages(path: str) -> bool:
    return is_events(path) or path in _PAGE_PATHS or _is_output(path)


def _is_output(path: str) -> bool:
    """Whether a path is one where the answer of a run waits, for whoever has its token."""
    return path.endswith("/output") and path.startswith(("/v1/checkpoint/", "/v1/http/runs/"))


_PLAIN = {"x-content-type-options": "nosniff"}
_FOREIGN_HOST = (
    "this server for development answers only as localhost, or an address of this machine's loopback; "
    "to reach it under another name, start it with --event-key and --signing-key, or with --allow-insecure-host"
)


_FOREIGN_PAGE = (
    "a page of another origin may only send events to a server without keys, and listen with a token; serve the page "
    "from localhost, or ask from its backend"
)


def is_foreign_page(scope: Scope) -> bool:
    """Whether a page of another host asks. Browsers say so of whatever may change something; others have no origin."""
    origin = header(scope, b"origin")
    if not origin:
        return False
    page = origin.partition("://")[2]
    # "null" is the origin of a file, and of whatever hides where it comes from.
    return not page or not (page == header(scope, b"host") or is_local_host(page))

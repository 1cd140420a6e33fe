"""Who may come in: the one check that every request passes before any route sees it.

With keys, `/e/{key}` asks for an event key and all else for the signing key as a bearer, routes that do not exist
yet included. Open are `/health` and what is below it, the module for pages, which is the same for all, and CORS
preflights, which carry no credentials; what subscribers and workers connect to asks for a token that a caller with the
key got for them. Without keys the server is for this machine alone: it then answers only to local host names, because a
web page can make its own name lead to 127.0.0.1 (DNS rebinding) and would get past the browser's rules under that name.
Nor may pages of other origins operate it, for some requests a browser sends without asking first; what SDKs do in pages
stays open to them: to send events, to listen with a token, and to come for an answer with one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import lru_cache
from typing import Final, Literal

from starlette.responses import Response
from starlette.types import Scope

from perdure.model.keys import Keys
from perdure.server.bodies import header
from perdure.server.envelope import ApiError, error_reply, is_agents, is_events, reply

ServerKind = Literal["dev", "cloud"]

_OPEN_PATHS = frozenset({"/health", "/health/", "/health/live", "/health/ready", "/perdure-stream.js"})
_TOKEN_PATHS = frozenset({"/v1/realtime/connect", "/v1/realtime/sse", "/v0/connect"})
"""Their routes ask for a token of their own: a browser cannot send headers with a WebSocket or an EventSource."""
_PAGE_PATHS = _OPEN_PATHS | {"/v1/realtime/connect", "/v1/realtime/sse"}
"""What pages of any origin may ask of a server without keys, besides sending events."""


class Guard:
    """What a server asks of its callers. `kind` is what the server calls itself: "dev", or "cloud" in production.

    `keys`: what callers must show; None asks for nothing. `local_only`: refuse requests for other host names than
    those of this machine.
    """

    def __init__(self, keys: Keys | None = None, *, kind: ServerKind = "dev", local_only: bool = False) -> None:
        self.keys = keys
        self.kind: Final = kind.encode()
        self._local_only = local_only

    def refusal(self, path: str, scope: Scope) -> Response | None:
        """The answer to a request that may not come in; None lets it in. Event keys are `knows_event_key`'s."""
        if self.keys is None and not _is_for_pages(path) and _is_foreign_page(scope):
            return error_reply(path, ApiError(403, _FOREIGN_PAGE))
        if self._local_only:
            host = header(scope, b"host")
            if host and not is_local_host(host):
                return error_reply(path, ApiError(403, _FOREIGN_HOST))
        if self.keys is None or path in _OPEN_PATHS or is_events(path) or scope.get("method") == "OPTIONS":
            return None
        if path in _TOKEN_PATHS or _is_output(path):
            return None
        scheme, _, bearer = header(scope, b"authorization").partition(" ")
        if scheme.lower() == "bearer" and self.keys.knows_bearer(bearer.strip()):
            return None
        headers = {"x-content-type-options": "nosniff", "www-authenticate": "Bearer"}
        if is_agents(path):
            return reply({"error": "Invalid or expired token"}, 401, headers)
        return Response("Authentication failed\n", 401, headers, "text/plain")

    def secret(self, purpose: str, installation: Callable[[str], bytes]) -> bytes:
        """What tokens of a kind are signed with: made from the keys, or else the installation's own secret."""
        return installation(purpose) if self.keys is None else self.keys.derive(purpose)

    def knows_event_key(self, key: str) -> bool:
        """Whether events may come in under a key."""
        return self.keys is None or self.keys.knows_event_key(key)


def _is_for_pages(path: str) -> bool:
    return is_events(path) or path in _PAGE_PATHS or _is_output(path)


def _is_output(path: str) -> bool:
    """Whether a path is one where the answer of a run waits, for whoever has its token."""
    return path.endswith("/output") and path.startswith(("/v1/checkpoint/", "/v1/http/runs/"))


_FOREIGN_HOST = (
    "this server for development answers only as localhost, or an address of this machine's loopback; "
    "to reach it under another name, start it with --event-key and --signing-key, or with --allow-insecure-host"
)


_FOREIGN_PAGE = (
    "a page of another origin may only send events to a server without keys, and listen with a token; serve the page "
    "from localhost, or ask from its backend"
)


def _is_foreign_page(scope: Scope) -> bool:
    """Whether a page of another host asks. Browsers say so of whatever may change something; others have no origin."""
    origin = header(scope, b"origin")
    if not origin:
        return False
    page = origin.partition("://")[2]
    # "null" is the origin of a file, and of whatever hides where it comes from.
    return not page or not (page == header(scope, b"host") or is_local_host(page))


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

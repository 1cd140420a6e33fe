"""Which role a request asks for, by its method and path: what the operation catalogue says of the operation.

What no catalogue has asks by its method: to read is for viewers, and everything else, which is what apps elsewhere
ask, for admins. A path that means nothing is refused the same way, so that nobody who may not act learns what there
is. The guard leaves the role of who is let in with the request; `may` asks for it where what a request does is only
known from its body.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Final

from starlette.types import Scope

from perdure.model.roles import Role
from perdure.server.catalogue import AGENTS, PROTOCOL, V1, V2
from perdure.server.envelope import ApiError

_ROLE: Final = "perdure.role"
_DOUBTED: Final = "perdure.doubted"
_V2_MOUNTS: Final = ("/v2", "/api/v2")
# Which tool is called is in the body: the door of tools asks `may` for each.
_TOOLS: Final = frozenset({"/mcp", "/mcp/"})


def role_for(method: str, path: str) -> Role:
    """The role that a request asks for.

    >>> role_for("GET", "/v2/runs"), role_for("POST", "/v2/runs/01ARZ/cancel"), role_for("POST", "/fn/register")
    (<Role.VIEWER: 1>, <Role.OPERATOR: 2>, <Role.ADMIN: 3>)
    """
    asked = "GET" if method == "HEAD" else method
    for pattern, role in _listed().get(asked, ()):
        if pattern.fullmatch(path):
            return role
    return Role.VIEWER if asked == "GET" or path in _TOOLS else Role.ADMIN


def grant(scope: Scope, role: Role) -> None:
    """Leaves the role of a caller with its request."""
    scope[_ROLE] = role


def granted(scope: Scope) -> Role:
    """The role of whoever makes a request; an application that no guard stands before lets everybody do everything."""
    role: Role = scope.get(_ROLE, Role.ADMIN)
    return role


def has_role(scope: Scope) -> bool:
    """Whether the guard has left a role with a request: it has shown a key then."""
    return _ROLE in scope


def doubt(scope: Scope) -> None:
    """Lets a request go on that the guard has refused, to where somebody else may know who makes it."""
    scope[_DOUBTED] = True


def is_doubted(scope: Scope) -> bool:
    """Whether a request must be refused unless it is known who makes it."""
    return _DOUBTED in scope


def may(scope: Scope, needed: Role) -> bool:
    """Whether whoever makes a request may do what asks for a role."""
    return granted(scope).allows(needed)


def forbidden(needed: Role, has: Role) -> ApiError:
    """What a caller is told whose role is too small."""
    return ApiError(403, f"this asks for the role {needed.word}; the key has the role {has.word}", "forbidden")


@cache
def _listed() -> dict[str, list[tuple[re.Pattern[str], Role]]]:
    found: dict[str, list[tuple[re.Pattern[str], Role]]] = {}
    for mount, operations in (("", PROTOCOL), ("", V1), ("", AGENTS), *((mount, V2) for mount in _V2_MOUNTS)):
        for operation in operations:
            found.setdefault(operation.method, []).append((_pattern(mount + operation.path), operation.role))
    return found


def _pattern(path: str) -> re.Pattern[str]:
    parts: Iterable[str] = re.split(r"(\{\w+\})", path)
    return re.compile("".join("[^/]+" if part.startswith("{") else re.escape(part) for part in parts))

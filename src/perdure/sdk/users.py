"""Who an app's users are: how the bearers of requests to its agents are told apart, and what belongs to whom.

A server that offers the agents of an app asks these functions, plain or `async`, for every request that shows none of
the server's own keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from perdure.model.json import Json

Hook: TypeAlias = Callable[..., Json]
"""A plain function or a coroutine function."""


@dataclass(frozen=True)
class Users:
    """`authenticate` gives the user whose token it is, None where it is nobody's.

    `resource` gives the id of the resource that a user's threads and runs belong to; it takes the place of what a
    request says. Without it that is believed. `authorize` is asked with the user, the method and the path. `role` gives
    what a user may do: "viewer", "operator" or "admin"; without it all are operators, who use agents, and shape none.
    """

    authenticate: Hook
    resource: Hook | None = None
    authorize: Hook | None = None
    role: Hook | None = None

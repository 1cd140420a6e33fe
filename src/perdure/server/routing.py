"""Routes made from the operation catalogue: an operation's path and method, and the handler with its id.

Operations without a handler, and handlers without an operation, are errors of the program, told at the start.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.server.catalogue import Operation

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


def routes(
    operations: Iterable[Operation], handlers: Mapping[str, Handler], mounts: Iterable[str] = ("",)
) -> list[Route]:
    """One route a path, so that a wrong method is told all the right ones."""
    by_path: dict[str, dict[str, Handler]] = {}
    left = dict(handlers)
    for operation in operations:
        if operation.id not in left:
            raise LookupError(f"operation {operation.id} has no handler")
        by_path.setdefault(operation.path, {})[operation.method] = left.pop(operation.id)
    if left:
        raise LookupError(f"handlers without an operation: {', '.join(left)}")
    return [
        Route(mount + path, _dispatch(methods), methods=list(methods))
        for mount in mounts
        for path, methods in by_path.items()
    ]


def _dispatch(methods: Mapping[str, Handler]) -> Handler:
    async def dispatch(request: Request) -> Response:
        # A GET route answers HEAD, too.
        return await methods["GET" if request.method == "HEAD" else request.method](request)

    return dispatch

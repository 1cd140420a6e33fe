"""Lists that are made once: what a server offers does not change while it is offered.

Checking and writing a list of tools takes the package longer than anything else that it does; so what it made for the
first client of a revision is given to the others.
"""

from __future__ import annotations

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

from perdure.model.json import Json

_LISTS = frozenset({"tools/list", "resources/list", "resources/templates/list", "prompts/list"})


class KeptLists:
    """A middleware that keeps lists by method and revision."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], HandlerResult] = {}

    async def __call__(self, ctx: ServerRequestContext[Json, Json], call_next: CallNext) -> HandlerResult:
        # A request with more than its envelope, such as a cursor, is looked at.
        if ctx.method not in _LISTS or set(ctx.params or ()) - {"_meta"}:
            return await call_next(ctx)
        key = (ctx.method, ctx.protocol_version)
        if key not in self._kept:
            self._kept[key] = await call_next(ctx)
        return self._kept[key]

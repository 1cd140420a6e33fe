"""Apps and their functions in v2 (part F.3): what is registered, with its configuration, and whether it is paused.

An app is known by its functions. What the protocol says of the way in which an app is reached (`method`) is left
out: apps in the server's process are none of its kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import Response

from perdure.engine import reads
from perdure.model.json import Json
from perdure.model.records import FunctionRow
from perdure.server.backend import Backend
from perdure.server.envelope import ApiError, v2
from perdure.server.identity import short_id
from perdure.server.queries import flag, page_limit
from perdure.server.routing import Handler
from perdure.server.run_lists import run_page, run_query
from perdure.server.shapes_v2 import function_shape
from perdure.server.times import rfc3339


def handlers(backend: Backend) -> Mapping[str, Handler]:
    """The handlers by the ids of their operations."""
    api = _Api(backend)
    return {
        "GetApps": api.apps,
        "GetApp": api.app,
        "GetFunctions": api.functions,
        "GetFunction": api.function,
        "ListFunctionRuns": api.runs,
    }


class _Api:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def _answer(self, data: Json, page: Json = None) -> Response:
        return v2(data, self._backend.clock.now(), page)

    async def apps(self, request: Request) -> Response:
        limit, archived = page_limit(request), flag(request, "archived")
        apps: dict[str, list[FunctionRow]] = {}
        for row in await self._backend.view(reads.functions):
            apps.setdefault(row.app_id, []).append(row)
        # An app without a function in force is one that is archived.
        chosen = {app: rows for app, rows in apps.items() if archived == all(row.archived_at for row in rows)}
        names, page = _page(sorted(chosen), request.query_params.get("cursor"), limit)
        return self._answer([_app(name, chosen[name]) for name in names], page)

    async def app(self, request: Request) -> Response:
        return self._answer(_app(request.path_params["app_id"], await self._rows(request)))

    async def functions(self, request: Request) -> Response:
        limit = page_limit(request)
        rows = {row.id: row for row in await self._rows(request) if self._backend.catalogue.get(row.id)}
        slugs, page = _page(sorted(rows), request.query_params.get("cursor"), limit)
        return self._answer([self._shape(rows[slug]) for slug in slugs], page)

    async def function(self, request: Request) -> Response:
        row = await self._row(request)
        if row.archived_at is not None or self._backend.catalogue.get(row.id) is None:
            raise ApiError(404, "Function not found")
        return self._answer(self._shape(row))

    async def runs(self, request: Request) -> Response:
        query = run_query(request)
        return await run_page(self._backend, query, [(await self._row(request)).id])

    def _shape(self, row: FunctionRow) -> Json:
        return function_shape(self._backend.catalogue.functions[row.id].config, row.paused_at)

    async def _rows(self, request: Request) -> list[FunctionRow]:
        """The functions of the app that a request names, those included that are out of force."""
        app_id = request.path_params["app_id"]
        rows = [row for row in await self._backend.view(reads.functions) if row.app_id == app_id]
        if not rows:
            raise ApiError(404, "App not found")
        return rows

    async def _row(self, request: Request) -> FunctionRow:
        app_id, name = request.path_params["app_id"], request.path_params["function_id"]
        for row in await self._backend.view(reads.functions):
            if row.app_id == app_id and name in (row.id, short_id(row.id, app_id)):
                return row
        raise ApiError(404, "Function not found")


def _app(app_id: str, rows: list[FunctionRow]) -> Json:
    return {
        "id": app_id,
        "name": app_id,
        "functionCount": sum(row.archived_at is None for row in rows),
        "createdAt": rfc3339(min(row.created_at for row in rows)),
        "latestSync": {"framework": "perdure", "sdkLanguage": "python", "sdkVersion": version("perdure")},
    }


def _page(names: list[str], cursor: str | None, limit: int) -> tuple[list[str], Json]:
    """The names after the cursor, which is the last one seen, and the `page` of the answer."""
    after = [name for name in names if name > (cursor or "")]
    if len(after) <= limit:
        return after, {"limit": limit}
    return after[:limit], {"cursor": after[limit - 1], "hasMore": True, "limit": limit}

"""Apps and their functions in v2 (part F.3): what is registered, with its configuration, and whether it is paused.

An app in the server's process is known by its functions; one on another server also by what it said when it synced,
and why its last sync failed, if it did. How an app is reached (`method`) is left out for those in the process: they
are none of the protocol's kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import Response

from perdure.engine import reads
from perdure.model.json import Json
from perdure.model.records import AppRow, FunctionRow
from perdure.server.backend import Backend
from perdure.server.bodies import read_fields, text_field
from perdure.server.envelope import ApiError, v2
from perdure.server.identity import short_id
from perdure.server.queries import flag, page_limit
from perdure.server.routing import Handler
from perdure.server.run_lists import run_page, run_query
from perdure.server.shapes_v2 import function_shape
from perdure.server.times import rfc3339
from perdure.wire.registration import is_url


def handlers(backend: Backend) -> Mapping[str, Handler]:
    """The handlers by the ids of their operations."""
    api = _Api(backend)
    return {
        "GetApps": api.apps,
        "GetApp": api.app,
        "GetFunctions": api.functions,
        "GetFunction": api.function,
        "ListFunctionRuns": api.runs,
        "SyncApp": api.sync,
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
        remote = {row.id: row for row in await self._backend.view(reads.apps)}
        for app_id in remote:
            apps.setdefault(app_id, [])
        # An app without a function in force is one that is archived, unless it registered without any.
        chosen = {
            app: rows
            for app, rows in apps.items()
            if archived == (app not in remote and all(row.archived_at for row in rows))
        }
        names, page = _page(sorted(chosen), request.query_params.get("cursor"), limit)
        return self._answer([_app(name, chosen[name], remote.get(name)) for name in names], page)

    async def app(self, request: Request) -> Response:
        app_id = request.path_params["app_id"]
        remote = await self._backend.view(partial(reads.app_by_id, app_id))
        rows = await self._rows(request) if remote is None else await self._functions_of(app_id)
        return self._answer(_app(app_id, rows, remote))

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

    async def sync(self, request: Request) -> Response:
        """Asks an app to register. That it could not be done is told as what came of it, with 422."""
        app_id, registry = request.path_params["app_id"], self._backend.registry
        body = await read_fields(request.scope, request.receive, "url")
        url, known = text_field(body, "url"), registry.get(app_id)
        if url is None and known is not None and known.method == "serve":
            url = known.url
        if url is None:
            raise ApiError(400, f"url is required: where the app {app_id} is served", "missing_field")
        if not is_url(url):
            raise ApiError(400, f"url must be an http or https URL, not {url}", "invalid_field_format")
        if registry.sync_at is None:
            raise ApiError(
                501, "this server asks no apps to register: perdure dev and perdure start do", "not_implemented"
            )
        outcome = await registry.sync_at(url)
        error = {"code": outcome.error, "message": outcome.message} if outcome.error else None
        if error is None and outcome.app_id != app_id:
            error = {
                "code": "app_mismatch",
                "message": f"the app at {url} is {outcome.app_id}, and has been synced as that",
            }
        row = registry.get(outcome.app_id)
        data: dict[str, Json] = {"appId": outcome.app_id or app_id, "status": "ERROR" if error else "SUCCESS"}
        if row is not None and not outcome.error:
            data["id"] = row.sync_id
        answer = self._answer(data if error is None else {**data, "error": error})
        answer.status_code = 200 if error is None else 422
        return answer

    def _shape(self, row: FunctionRow) -> Json:
        return function_shape(self._backend.catalogue.functions[row.id].config, row.paused_at)

    async def _rows(self, request: Request) -> list[FunctionRow]:
        """The functions of the app that a request names, those included that are out of force."""
        app_id = request.path_params["app_id"]
        rows = await self._functions_of(app_id)
        if not rows and await self._backend.view(partial(reads.app_by_id, app_id)) is None:
            raise ApiError(404, "App not found")
        return rows

    async def _functions_of(self, app_id: str) -> list[FunctionRow]:
        return [row for row in await self._backend.view(reads.functions) if row.app_id == app_id]

    async def _row(self, request: Request) -> FunctionRow:
        app_id, name = request.path_params["app_id"], request.path_params["function_id"]
        for row in await self._backend.view(reads.functions):
            if row.app_id == app_id and name in (row.id, short_id(row.id, app_id)):
                return row
        raise ApiError(404, "Function not found")


def _app(app_id: str, rows: list[FunctionRow], remote: AppRow | None) -> Json:
    shown: dict[str, Json] = {
        "id": app_id,
        "name": app_id,
        "functionCount": sum(row.archived_at is None for row in rows),
    }
    if remote is not None:
        created = {"createdAt": rfc3339(remote.created_at), "method": remote.method.upper()}
        return {**shown, **created, "latestSync": _sync(remote)}
    sync = {"framework": "perdure", "sdkLanguage": "python", "sdkVersion": version("perdure")}
    return {**shown, "createdAt": rfc3339(min(row.created_at for row in rows)), "latestSync": sync}


def _sync(row: AppRow) -> Json:
    """The last sync of an app that changed something, and why the last one failed, if it did."""
    language, _, number = row.sdk.partition(":")
    shown = {
        "id": row.sync_id,
        "framework": row.framework,
        "sdkLanguage": language,
        "sdkVersion": number,
        "appVersion": row.version,
        "url": row.url,
        "syncedAt": rfc3339(row.synced_at),
    }
    found: dict[str, Json] = {name: value for name, value in shown.items() if value}
    return found if row.error is None else {**found, "error": {"code": row.error, "message": row.message}}


def _page(names: list[str], cursor: str | None, limit: int) -> tuple[list[str], Json]:
    """The names after the cursor, which is the last one seen, and the `page` of the answer."""
    after = [name for name in names if name > (cursor or "")]
    if len(after) <= limit:
        return after, {"limit": limit}
    return after[:limit], {"cursor": after[limit - 1], "hasMore": True, "limit": limit}

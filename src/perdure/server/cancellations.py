"""Cancellations in bulk (part F.2 of the protocol): they take effect at once, and are listed for 30 days."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from perdure.engine import cancellations
from perdure.expressions import ExpressionError
from perdure.model.durations import InstantError, parse_instant
from perdure.model.ids import is_ulid, make_ulid
from perdure.model.json import Json
from perdure.model.records import Cancellation
from perdure.server import shapes_v1 as shapes
from perdure.server.backend import Backend
from perdure.server.bodies import read_object, text_field
from perdure.server.envelope import ApiError, v1
from perdure.server.identity import slugs_of
from perdure.server.queries import page_limit
from perdure.server.routing import Handler


def handlers(backend: Backend) -> Mapping[str, Handler]:
    """The handlers by the ids of their operations."""
    api = _Api(backend)
    return {
        "V1ListCancellations": api.listed,
        "V1CreateCancellation": api.create,
        "V1DeleteCancellation": api.delete,
    }


class _Api:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def listed(self, request: Request) -> Response:
        limit, cursor = page_limit(request), request.query_params.get("cursor") or None
        if cursor is not None and not is_ulid(cursor):
            raise ApiError(400, "Invalid cursor query parameter")
        rows = await self._backend.view(lambda: cancellations.listed(limit, cursor))
        return v1([shapes.cancellation(row, self._backend.environment_id) for row in rows], self._backend.clock.now())

    async def create(self, request: Request) -> Response:
        body = await read_object(request.scope, request.receive)
        now = self._backend.clock.now()
        slug = self._function(text_field(body, "function_id"), text_field(body, "app_id"))
        after, before = _time(body, "started_after"), _time(body, "started_before")
        if before is not None and before > now:
            raise ApiError(400, "started_before must be in the past")
        condition, cancellation_id = text_field(body, "if"), make_ulid(now, secrets.randbits(80))
        row = Cancellation(cancellation_id, slug, after, now if before is None else before, condition, now, 0)
        try:
            row.cancelled = await self._backend.cancel_many(
                slug, started_after=row.started_after, started_before=row.started_before, if_=condition
            )
        except ExpressionError as error:
            raise ApiError(400, f"if: {error}") from error
        await self._backend.decide(cancellations.record, row)
        return v1(shapes.cancellation(row, self._backend.environment_id), now)

    async def delete(self, request: Request) -> Response:
        cancellation_id: str = request.path_params["id"]
        if not is_ulid(cancellation_id):
            raise ApiError(400, f"Invalid cancellation ID: {cancellation_id}")
        if not await self._backend.decide(cancellations.forget, cancellation_id):
            raise ApiError(404, f"Cancellation not found: {cancellation_id}")
        return Response(status_code=204)

    def _function(self, name: str | None, app_id: str | None) -> str:
        if not name:
            raise ApiError(400, "function_id is required")
        catalogue = self._backend.catalogue
        found = [slug for slug in slugs_of(catalogue, [name], [app_id] if app_id else []) if catalogue.get(slug)]
        if not found:
            raise ApiError(404, f"Function not found: {name}")
        if len(found) > 1:
            raise ApiError(400, f"function_id: {name} is in several apps; give app_id, or one of {', '.join(found)}")
        return found[0]


def _time(body: dict[str, Json], name: str) -> int | None:
    text = text_field(body, name)
    if text is None:
        return None
    try:
        return parse_instant(text)
    except InstantError as error:
        raise ApiError(400, f"{name}: {error}") from error

"""The GraphQL subset that SDK test suites and tools ask for, at `POST /v0/gql` (part F.5 of the protocol).

The schema is `schema.graphql`; `resolvers` answers its root fields, and what lies below them is plain data or
something to call when it is asked for. A request reads through one `Reader`, which bounds what it may cost.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.model.json import Json, decode
from perdure.model.limits import MAX_EVENT_BYTES
from perdure.server.backend import Backend
from perdure.server.bodies import read_body
from perdure.server.envelope import reply
from perdure.server.permissions import forbidden, granted

_MAX_BODY = MAX_EVENT_BYTES + 256 * 1024
"""Room for the data of `invokeFunction`."""


def routes(backend: Backend) -> list[Route]:
    """The route of the API."""

    async def post(request: Request) -> Response:
        # graphql-core takes a quarter of a second to import: servers that nobody asks need not.
        from perdure.server.graphql.execution import answer, role_for

        body = await read_body(request.scope, request.receive, _MAX_BODY)
        try:
            asked = _checked(decode(body))
        except ValueError as error:  # text that is no JSON included
            return reply({"errors": [{"message": str(error)}], "data": None}, 400)
        needed, has = role_for(asked[0], asked[2]), granted(request.scope)
        if not has.allows(needed):
            return reply({"errors": [{"message": forbidden(needed, has).message}], "data": None}, 403)
        return reply(await answer(backend, *asked))

    return [Route("/v0/gql", post, methods=["POST"])]


def _checked(body: Json) -> tuple[str, dict[str, Json], str | None]:
    """The query, its variables, and the name of the operation. Raises `ValueError`."""
    if not isinstance(body, dict):
        raise ValueError('the request must be a JSON object such as {"query": "...", "variables": {}}')
    query, variables, name = body.get("query"), body.get("variables"), body.get("operationName")
    if not isinstance(query, str) or not query.strip():
        raise ValueError("query is required: a GraphQL document as text")
    if variables is not None and not isinstance(variables, dict):
        raise ValueError("variables must be an object")
    if name is not None and not isinstance(name, str):
        raise ValueError("operationName must be a text")
    return query, variables or {}, name or None

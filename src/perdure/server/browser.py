"""`GET /perdure-stream.js`: the streaming client for pages. It is open to everybody, as it holds nothing of anybody."""

from __future__ import annotations

from hashlib import sha256

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.client import browser

PATH = f"/{browser.NAME}"


def routes() -> list[Route]:
    """The route of the module. A copy is asked about each time, so that pages never run one of an older server."""
    content = browser.source().encode()
    etag = f'"{sha256(content).hexdigest()[:32]}"'
    headers = {"cache-control": "no-cache", "etag": etag, "x-content-type-options": "nosniff"}

    async def module(request: Request) -> Response:
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=browser.MEDIA_TYPE)

    return [Route(PATH, module)]

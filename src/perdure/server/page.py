"""The page at `/`: its files, as they are in the package, to whoever asks; what they show, they ask of the API.

Everything comes from this origin, and nothing inline is run: the policy below lets a browser refuse whatever else might
find its way into the page. A copy is asked about each time, so that nobody looks through the page of an older server.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.server.envelope import standard_error

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES: Final = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
_HEADERS: Final = {
    "cache-control": "no-cache",
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@cache
def page_files() -> dict[str, bytes]:
    """The files of the page by their names."""
    found: dict[str, bytes] = {}
    for folder in ("", "views/"):
        for entry in (files("perdure") / "page" / folder).iterdir():
            if entry.is_file() and entry.name.rpartition(".")[2] in _TYPES:
                found[folder + entry.name] = entry.read_bytes()
    return found


def routes() -> list[Route]:
    """The routes of the page and its files."""

    async def index(request: Request) -> Response:
        return _answer(request, "index.html")

    async def file(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in page_files():
            raise standard_error(404)
        return _answer(request, name)

    return [Route("/", index), Route("/page/{name:path}", file)]


def _answer(request: Request, name: str) -> Response:
    content = page_files()[name]
    headers = {**_HEADERS, "etag": f'"{sha256(content).hexdigest()[:32]}"'}
    if headers["etag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=_TYPES[name.rpartition(".")[2]])

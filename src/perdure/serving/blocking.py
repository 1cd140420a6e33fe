"""A served app for servers that know no event loop: a WSGI application, and a view for Django.

Requests block their thread; what they ask for runs in one event loop, in a thread that the app's process keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Unpack
from urllib.parse import parse_qsl, quote

from perdure.model.json import Json
from perdure.model.limits import MAX_REQUEST_BYTES
from perdure.sdk.app import App
from perdure.serving.asgi import make_endpoint
from perdure.serving.exchange import Answer, Request, problem
from perdure.serving.settings import ServeOptions
from perdure.serving.threads import block_on

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def wsgi(app: App, **options: Unpack[ServeOptions]) -> WSGIApplication:
    """`serve` for WSGI: to be dispatched to by Flask, Pyramid and others, or to be run as it is.

    >>> from perdure import App
    >>> application = wsgi(App("shop"), is_dev=True)

    Options as for `serve`. Raises `ConfigError`.
    """
    endpoint = make_endpoint(app, options)

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = _request(environ)
        found = _too_large() if request is None else block_on(endpoint.answer(request))
        headers = [*found.headers.items(), ("content-length", str(len(found.body)))]
        start_response(_status(found.status), headers)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else found.body]

    return application


def django_view(app: App, **options: Unpack[ServeOptions]) -> Callable[[Json], Json]:
    """`serve` as a view of Django: `urlpatterns = [path("api/inngest", django_view(shop))]`.

    Options as for `serve`. Raises `ConfigError`.
    """
    endpoint = make_endpoint(app, options)

    def view(request: Json) -> Json:
        url: str = request.build_absolute_uri(request.path)
        # Not `request.body`, for which a limit holds that is meant for forms.
        body: bytes = request.read(MAX_REQUEST_BYTES + 1)
        incoming = Request(
            method=request.method,
            url=url,
            query=dict(request.GET.items()),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=body,
            framework="django",
        )
        found = _too_large() if len(body) > MAX_REQUEST_BYTES else block_on(endpoint.answer(incoming))
        return import_module("django.http").HttpResponse(found.body, status=found.status, headers=found.headers)

    # The signature is what protects it; a server has no token of a form.
    view.csrf_exempt = True  # type: ignore[attr-defined]
    return view


def _request(environ: WSGIEnvironment) -> Request | None:
    """The request, None when its body is too large."""
    body = _body(environ)
    if len(body) > MAX_REQUEST_BYTES:
        return None
    headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
    return Request(
        method=environ["REQUEST_METHOD"],
        url=_url(environ),
        query=dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True)),
        headers=headers,
        body=body,
        framework="wsgi",
    )


def _body(environ: WSGIEnvironment) -> bytes:
    """The body; of one that is too large, no more than shows it."""
    stream = environ["wsgi.input"]
    length = environ.get("CONTENT_LENGTH")
    if length:
        found: bytes = stream.read(min(int(length), MAX_REQUEST_BYTES + 1))
        return found
    # Without a length the stream has an end only where the server says so: it came in chunks.
    chunked: bytes = stream.read(MAX_REQUEST_BYTES + 1) if environ.get("wsgi.input_terminated") else b""
    return chunked


def _url(environ: WSGIEnvironment) -> str:
    host = environ.get("HTTP_HOST") or f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
    # In WSGI a path is bytes in the clothes of Latin-1.
    path = (environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1")
    return f"{environ['wsgi.url_scheme']}://{host}{quote(path)}"


def _status(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Unknown"


def _too_large() -> Answer:
    message = f"the body has more than {MAX_REQUEST_BYTES} bytes"
    return problem(413, "body_too_large", "BodyTooLargeError", message, retry=False)

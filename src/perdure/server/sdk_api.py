"""What SDKs ask of a server before any run: to register their apps, and whether somebody is there (parts B.2, G.1).

`POST /fn/register` answers what went wrong with every function at once, `error` first as the protocol has it. With
keys, the guard has let nobody in who does not have them.
"""

from __future__ import annotations

from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.apps.settings import Polling
from perdure.engine.catalogue import CompiledFunction
from perdure.model.json import Json
from perdure.server.auth import Guard
from perdure.server.backend import Backend
from perdure.server.bodies import read_body
from perdure.server.envelope import ApiError, reply
from perdure.server.identity import uuid_of
from perdure.wire import headers
from perdure.wire.documents import document_of
from perdure.wire.registration import RegistrationError, parse_registration

_MAX_BODY = 16 * 1024 * 1024
"""Of a registration (bytes): apps have thousands of functions at most, of a few kilobytes each."""
_EMBEDDED = "perdure://in-process"
"""Stands where a function would be called, for those of this process."""


def routes(backend: Backend, guard: Guard) -> list[Route]:
    """The routes of registration and of the handshake of SDKs."""
    api = _Api(backend, guard)
    return [
        Route("/fn/register", api.register, methods=["POST"]),
        Route("/fn/remove", api.remove, methods=["DELETE"]),
        Route("/dev", api.dev),
    ]


class _Api:
    def __init__(self, backend: Backend, guard: Guard) -> None:
        self._backend = backend
        self._guard = guard

    async def register(self, request: Request) -> Response:
        """An app registers its functions."""
        body = await read_body(request.scope, request.receive, _MAX_BODY)
        kind, expected = self._guard.kind.decode(), request.headers.get(headers.EXPECTED_SERVER_KIND, "")
        try:
            if expected and expected.lower() != kind:
                return await self._misdirected(body, expected[:80], kind)
            synced = await self._backend.registry.sync(parse_registration(body))
        except RegistrationError as error:
            await self._backend.registry.refused(error)
            return reply(error.body(), 400)
        app_id = uuid_of(synced.app_id)
        return reply({"ok": True, "modified": synced.modified, "sync_id": synced.sync_id, "app_id": app_id})

    async def _misdirected(self, body: bytes, expected: str, kind: str) -> Response:
        """The app is set up for a server of the other kind, whose rules for keys are others."""
        text = f"Expected server kind {expected}, got {kind}"
        hint = "start the app with INNGEST_DEV=1" if kind == "dev" else "start the app with INNGEST_DEV=0 and its keys"
        error = RegistrationError(text, [hint], code="server_kind_mismatch")
        found = parse_registration(body)
        error.app_id, error.url = found.app_id, found.url
        await self._backend.registry.refused(error)
        return reply({"error": text, "details": error.details}, 400)

    async def remove(self, request: Request) -> Response:
        """Forgets an app; the dashboard of the protocol calls it with the app's URL."""
        url = request.query_params.get("url")
        if not url:
            raise ApiError(400, "url: is required: the URL, or the id, of the app to remove")
        if not await self._backend.registry.remove(url):
            raise ApiError(404, f"no app is registered at {url}")
        return reply({"ok": True})

    async def dev(self, request: Request) -> Response:
        """What a server is, and the functions in force: SDKs look for it, test harnesses wait with it."""
        functions = sorted(self._backend.catalogue.functions.values(), key=lambda function: function.id)
        body: dict[str, Json] = {
            "version": f"perdure-{version('perdure')}",
            "authed": self._guard.keys is not None,
            "startOpts": _options(self._backend.registry.polling, self._guard),
            "functions": [_function(function) for function in functions],
            "handlers": None,
            "isSingleNodeService": True,
            "isMissingSigningKey": False,
            "isMissingEventKeys": False,
            "features": {},
        }
        return reply(body)


def _options(polling: Polling, guard: Guard) -> dict[str, Json]:
    return {
        "urls": list(polling.urls),
        "autodiscover": polling.discovery,
        "poll": polling.interval > 0,
        "poll_interval": polling.interval,
        "require_keys": guard.keys is not None,
    }


def _function(function: CompiledFunction) -> Json:
    config, number = function.config, function.version
    shown = document_of(config, None if config.url else _EMBEDDED)
    step = shown["steps"]["step"]
    return {
        **shown,
        "id": uuid_of(config.id),
        "slug": config.id,
        "cv": number,
        "fv": number,
        "steps": [{"id": "step", "name": "step", "uri": config.url or "", "retries": step["retries"]["attempts"]}],
    }

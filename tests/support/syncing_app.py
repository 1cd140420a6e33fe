"""An app on another server that can be asked to register: an HTTP server in this process, on a port of its own.

`mode` says how it behaves: as an SDK should ("out_of_band"), as one that is set up for another server ("elsewhere"),
or with a fault. What it was asked is in `asked`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from aiohttp import web

from perdure.model.json import Json, encode
from tests.support.hosting import aiohttp_server
from tests.support.registrations import function_object, in_band_answer, npm_request

Register: TypeAlias = Callable[[dict[str, Json]], Awaitable[Json]]

_SDK = {"x-inngest-sdk": "inngest-js:v4.24.0"}


class Asked:
    """A request that the app got."""

    def __init__(self, request: web.Request, body: bytes) -> None:
        self.method = request.method
        self.path = request.path
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        self.body = body


class SyncingApp:
    """An app. `register` takes its registration to the server that it is set up for."""

    def __init__(self, register: Register, name: str) -> None:
        self._register = register
        self.name = name
        self.mode = "out_of_band"
        self.environment = ""
        """Which it tells with every answer, if any."""
        self.url = ""
        self.asked: list[Asked] = []

    async def answer(self, request: web.Request) -> web.Response:
        """Answers one request."""
        asked = Asked(request, await request.read())
        self.asked.append(asked)
        if request.method != "PUT":
            return web.json_response({"mode": "dev"}, headers=_SDK if self.mode != "no_sdk" else {})
        if asked.headers.get("x-inngest-sync-kind") == "in_band" and self.mode in ("elsewhere", "unable"):
            document = in_band_answer(self._function(), app=self.name, url=self.url)
            return _reply(document, {**_SDK, "x-inngest-sync-kind": "in_band"})
        return await self._put()

    def _function(self) -> dict[str, Json]:
        return function_object(f"{self.name}-fulfil", self.url)

    async def _put(self) -> web.Response:
        faults = {"unauthorized": 401, "forbidden": 403, "not_found": 404, "broken": 500, "unable": 500}
        if self.mode in faults:
            headers = _SDK if self.mode == "unable" else {}
            return _reply({"message": f"it is {self.mode}"}, headers, faults[self.mode])
        if self.mode == "no_sdk":
            return web.Response(text="<html>")
        if self.mode == "redirected":
            raise web.HTTPTemporaryRedirect("file:///etc/passwd")
        if self.mode == "invalid":
            await self._register(npm_request({**self._function(), "name": ""}, app=self.name, url=self.url))
        if self.mode == "out_of_band":
            await self._register(npm_request(self._function(), app=self.name, url=self.url))
        told = {"x-inngest-env": self.environment} if self.environment else {}
        return _reply({"message": "Successfully registered", "modified": True}, {**_SDK, **told})


def _reply(document: Json, headers: dict[str, str], status: int = 200) -> web.Response:
    return web.Response(body=encode(document), status=status, headers=headers, content_type="application/json")


@asynccontextmanager
async def syncing_app(register: Register, name: str = "shop", path: str = "/api/inngest") -> AsyncGenerator[SyncingApp]:
    """An app that is being served."""
    app = SyncingApp(register, name)
    served = web.Application()
    served.router.add_route("*", path, app.answer)
    async with aiohttp_server(served) as url:
        app.url = url + path
        yield app

"""Calls of durable endpoints on the page, in a real browser."""

from __future__ import annotations

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import perdure
from perdure import App, step, stream
from tests.support.devtools import Page
from tests.support.hosting import asgi_server
from tests.support.page_server import has_text, open_view


async def test_a_call_is_listed_with_its_run_and_what_it_said(page: Page) -> None:
    app = App("shop")

    async def say() -> str:
        stream.push("no ships sail")
        return "said"

    @app.endpoint()
    async def write(request: Request) -> Response:
        # What is said before the redirect, only the app's answer has.
        await step.sleep("nap", "50ms")
        await step.run("say", say)
        return Response("all of it", media_type="text/plain")

    async with perdure.embedded(app, db=":memory:") as node, asgi_server(node.asgi()) as server:
        routes = [Route("/write", write, methods=["GET", "POST"])]
        async with asgi_server(Starlette(routes=routes)) as url, httpx2.AsyncClient(follow_redirects=True) as http:
            await http.get(f"{url}/write", headers={"accept": "text/event-stream"})
            await open_view(page, server, "#/endpoints")
            await has_text(page, "GET /write")
            await has_text(page, "Completed")
            await page.run("document.querySelector('td a.mono').click()")
            await has_text(page, "nap")
            await has_text(page, "no ships sail", ".said")
            assert page.errors == []

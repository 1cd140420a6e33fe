"""The page of docs/streaming-clients.md, as it is printed there, in a real browser."""

from __future__ import annotations

import re

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

import perdure
from perdure import App, step, stream
from tests.support.devtools import Page
from tests.support.hosting import asgi_server
from tests.support.sdk_apps import ROOT

SERVER = "https://perdure.example"
BROWSER_ASKS = Route("/favicon.ico", lambda request: Response(status_code=204))


def documented(server: str) -> str:
    """The page, with the module of this server."""
    text = (ROOT / "docs/streaming-clients.md").read_text(encoding="utf-8")
    found = re.search(r"^```html\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert found is not None and SERVER in found[1]
    return f"<!doctype html><title>Ships</title><output></output>\n{found[1].replace(SERVER, server)}"


async def test_the_documented_page_shows_the_stream_and_then_the_answer(page: Page) -> None:
    app = App("shop")
    attempts: list[str] = []

    async def say(topic: str) -> str:
        attempts.append(topic)
        stream.push("no ")
        if len(attempts) == 1:
            raise RuntimeError("not yet")
        return await stream.pipe([f"{topic} ", "sail"])

    @app.endpoint()
    async def write(request: Request) -> Response:
        text = await step.run("say", say, (await request.json())["topic"])
        await step.sleep("nap", "500ms")
        return Response(f"all of it: {text}", media_type="text/plain")

    async with perdure.embedded(app, db=":memory:", retry_interval=20) as node, asgi_server(node.asgi()) as server:
        html = HTMLResponse(documented(server))
        index = Route("/", lambda request: html)
        routes = [index, Route("/write", write, methods=["POST", "GET"]), BROWSER_ASKS]
        async with asgi_server(Starlette(routes=routes)) as url:
            await page.goto(f"{url}/")
            await page.until("document.querySelector('output').textContent === 'no ships sail'")
            await page.until("document.querySelector('output.done')?.textContent === 'all of it: ships sail'")
            assert page.errors == [] and attempts == ["ships", "ships"]
            assert f"{server}/perdure-stream.js" in page.requests

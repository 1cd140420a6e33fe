"""A writing desk: a FastAPI app whose page shows a letter while it is written, with what is taken back.

    pip install fastapi
    uvicorn desk:web --port 8000

Then open http://localhost:8000. The letter and its postscript are written by two steps beside each other, each said
word by word. The writer of the letter breaks off in mid sentence, if the page asks for it: what it had said is taken
back, and the next attempt says something else. Then the ink dries; kill the process meanwhile and start it again, and
the page gets its letter all the same. The engine is in this process, its records are in one file (DESK_DB).

The page is in desk_page; it has no script but its own and perdure's module for pages, which the app serves itself.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Route

import perdure
from perdure import App, RetryAfterError, step, stream
from perdure.client import browser

PAGE = Path(__file__).with_name("desk_page")
DRYING = os.environ.get("DESK_DRYING", "2s")
WORD = float(os.environ.get("DESK_WORD", "0.06"))
POLICY = {"content-security-policy": "default-src 'self'; frame-ancestors 'none'", "cache-control": "no-cache"}

app = App("desk")


class Wish(BaseModel):
    """What is to be written. `breaks_off`: the first attempt of the letter fails in mid sentence."""

    to: str = Field(min_length=1, max_length=80)
    about: str = Field(min_length=1, max_length=200)
    breaks_off: bool = False


async def words(text: str) -> AsyncGenerator[str]:
    """A text as a model gives it."""
    for word in text.split():
        yield f"{word} "
        await asyncio.sleep(WORD)


async def write(wish: Wish, number: str) -> str:
    if wish.breaks_off and number not in _broken_off:
        _broken_off.add(number)
        await stream.pipe(words(f"Dear {wish.to}, unfortunately I have nothing to say about {wish.about}, and even"))
        raise RetryAfterError("the writer broke off", retry_after=1)
    text = f"Dear {wish.to}, you asked about {wish.about}. It is better than I thought, and more of it comes by train."
    return await stream.pipe(words(text))


async def add(wish: Wish) -> str:
    await asyncio.sleep(WORD * 3)
    return await stream.pipe(words(f"P.S. Keep this letter, {wish.to}: the ink was expensive."))


async def sign() -> str:
    return await stream.pipe(words("Yours, the desk"))


_broken_off: set[str] = set()
"""The letters that have been broken off, by number."""

web = FastAPI(title="A writing desk", lifespan=perdure.lifespan(app, db=os.environ.get("DESK_DB", "desk.db")))
# Runs go on at the address by which they were begun, so no other host may be named.
web.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1"])


@web.post("/letters")
@app.endpoint(function_id="letter", async_redirect_url="/wait", stream_url="/wait")
async def letter(request: Request, wish: Wish) -> JSONResponse:
    number = await step.run("number", secrets.token_hex, 4)
    text, postscript = await asyncio.gather(
        step.run("write", write, wish, number),
        step.run("postscript", add, wish),
    )
    await step.sleep("the ink dries", DRYING)
    signature = await step.run("sign", sign)
    paragraphs = [part.strip() for part in (text, signature, postscript)]
    return JSONResponse({"number": number, "letter": paragraphs}, status_code=201)


web.routes.append(Route("/wait", app.endpoint_proxy(allow_origin=None)))


@web.get("/perdure-stream.js")
async def module() -> Response:
    return Response(browser.source(), media_type=browser.MEDIA_TYPE, headers=POLICY)


@web.get("/")
async def page() -> FileResponse:
    return FileResponse(PAGE / "index.html", headers=POLICY)


web.mount("/page", StaticFiles(directory=PAGE))

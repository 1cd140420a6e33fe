"""A letter that its reader can watch being written: an endpoint that streams, sleeps, and answers.

    perdure dev
    PERDURE_DEV=1 uvicorn letters:web --port 8000
    curl -iL "localhost:8000/letter?reader=Ada"

`perdure demo endpoint` calls it with three clients, and kills its process while the ink dries. The writer breaks off
once for each reader; the attempt that follows writes another letter, as models do, so what the first one said must
not stay. What the steps do is noted in a ledger (shop_ledger.py).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from perdure import App, RetryAfterError, step, stream
from shop_ledger import Ledger

DRYING = os.environ.get("LETTERS_DRYING", "3s")
DRAFT = "Dear {reader}, we regret to say that your parcel"
LETTER = "Dear {reader}, your parcel of tea left this morning. It travels by train, and should reach you on Friday."

app = App("letters")
ledger = Ledger(os.environ.get("ORDERS_LEDGER", "ledger.jsonl"))


async def words(text: str) -> AsyncGenerator[str]:
    """A text as a model gives it: word by word, and not at once."""
    for word in text.split():
        yield f"{word} "
        await asyncio.sleep(0.05)


async def write(reader: str) -> dict[str, object]:
    key = f"{reader}/write"
    ledger.append("begun", key)
    if not ledger.has("failed", key):
        await stream.pipe(words(DRAFT.format(reader=reader)))
        ledger.append("failed", key)
        raise RetryAfterError("the writer broke off", retry_after=0.5)
    text = await stream.pipe(words(LETTER.format(reader=reader)))
    ledger.append("effect", key)
    return {"text": text.strip(), "process": os.getpid()}


def seal(reader: str) -> int:
    ledger.call(f"{reader}/seal", 0.05)
    return os.getpid()


@app.endpoint(function_id="letter")
async def letter(request: Request) -> JSONResponse:
    reader = request.query_params.get("reader", "reader")
    written = await step.run("write", write, reader)
    await step.sleep("the ink dries", DRYING)
    sealed_by = await step.run("seal", seal, reader)
    return JSONResponse({"letter": written["text"], "written_by": written["process"], "sealed_by": sealed_by})


async def health(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


web = Starlette(routes=[Route("/letter", letter, methods=["GET"]), Route("/health", health)])

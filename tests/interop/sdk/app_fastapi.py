"""The catalogue on PyPI's `inngest` with FastAPI under uvicorn; and apps that encrypt and that stream."""

from __future__ import annotations

import os
from typing import Any

import fastapi
import inngest
import inngest.fast_api
from inngest_encryption import EncryptionMiddleware

from tests.interop.sdk import journal
from tests.interop.sdk.catalogue import catalogue
from tests.interop.sdk.declaring import SECOND, Catalogue, data_of
from tests.interop.sdk.listening import Listening

ID = os.environ.get("APP_ID", "py-fastapi")
app = fastapi.FastAPI()
client = inngest.Inngest(app_id=ID, logger=journal.logger())
secret = inngest.Inngest(
    app_id=f"{ID}-secret",
    logger=journal.logger(),
    middleware=[EncryptionMiddleware.factory("not-a-secret")],
)
streamed = inngest.Inngest(app_id=f"{ID}-streamed")
hidden, slow = Catalogue(secret), Catalogue(streamed)


@hidden.add("hides")
async def hides(ctx: inngest.Context) -> str:
    async def a() -> str:
        return f"{data_of(ctx)['encrypted']['word']} and more"

    found = await ctx.step.run("a", a)
    await ctx.step.sleep("nap", SECOND)
    journal.note(data_of(ctx)["key"], found)
    return found


@slow.add("two-steps")
async def two_steps(ctx: inngest.Context) -> dict[str, Any]:
    async def first() -> dict[str, int]:
        return {"n": data_of(ctx)["n"] + 1}

    a = await ctx.step.run("a", first)

    async def second() -> int:
        return a["n"] + 1

    return {"a": a, "b": await ctx.step.run("b", second)}


inngest.fast_api.serve(app, client, catalogue(client).functions)
inngest.fast_api.serve(app, secret, hidden.functions, serve_path="/api/secret")
inngest.fast_api.serve(app, streamed, slow.functions, serve_path="/api/streamed", streaming=inngest.Streaming.FORCE)


@app.get("/journal")
async def read_journal(key: str) -> list[dict[str, Any]]:
    return journal.read(key)


@app.post("/send")
async def send(request: fastapi.Request) -> list[str]:
    return await client.send([inngest.Event(**event) for event in await request.json()])


@app.post("/send-secret")
async def send_secret(request: fastapi.Request) -> list[str]:
    return await secret.send([inngest.Event(**event) for event in await request.json()])


if __name__ == "__main__":
    Listening(app).run()

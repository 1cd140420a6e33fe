"""A function of three steps on PyPI's `inngest`, for `python -m bench.sdk`."""

from __future__ import annotations

from typing import Any

import fastapi
import inngest
import inngest.fast_api

from tests.interop.sdk.listening import Listening

app = fastapi.FastAPI()
client = inngest.Inngest(app_id="three")


@client.create_function(fn_id="three", trigger=inngest.TriggerEvent(event="bench/three"))
async def three(ctx: inngest.Context) -> Any:
    async def add(n: Any) -> Any:
        return n + 1

    a = await ctx.step.run("a", add, ctx.event.data["n"])
    b = await ctx.step.run("b", add, a)
    return await ctx.step.run("c", add, b)


inngest.fast_api.serve(app, client, [three])

if __name__ == "__main__":
    Listening(app).run()

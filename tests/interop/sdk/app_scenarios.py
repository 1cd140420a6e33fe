"""Functions on PyPI's `inngest` that try a server: they differ from call to call, or fail beside other steps.

Where GATEWAY gives the address of a WebSocket, the app is a worker as well, and reaches the server by that address.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import fastapi
import inngest
import inngest.fast_api
from inngest.connect import ConnectionState, connect

from tests.interop.sdk import journal
from tests.interop.sdk.declaring import Catalogue, data_of
from tests.interop.sdk.journal import note
from tests.interop.sdk.listening import Listening

ID = os.environ.get("APP_ID", "py-scenarios")
GATEWAY = os.environ.get("GATEWAY")
app = fastapi.FastAPI()
client = inngest.Inngest(app_id=ID, logger=journal.logger())
made, held = Catalogue(client), Catalogue(client)


def step(ctx: inngest.Context, name: str, *, fails: bool = False) -> Callable[[], Awaitable[Any]]:
    """A step, to be run, that notes its name."""

    async def work() -> str:
        note(data_of(ctx)["key"], name)
        if fails:
            raise ValueError(f"{name} failed")
        return name

    return lambda: ctx.step.run(name, work)


@made.add("chains")
async def chains(ctx: inngest.Context) -> Any:
    note(data_of(ctx)["key"], "call")

    async def chain(*names: str) -> list[Any]:
        return [await step(ctx, name)() for name in names]

    mode = inngest.ParallelMode.RACE if data_of(ctx).get("race") else inngest.ParallelMode.WAIT
    return await ctx.group.parallel((lambda: chain("a1", "a2"), lambda: chain("b1", "b2")), parallel_mode=mode)


@made.add("insists", retries=0)
async def insists(ctx: inngest.Context) -> None:
    # Once its steps are asked for one by one, it wants another one first.
    if note(data_of(ctx)["key"], "call") > 1:
        await step(ctx, "first")()
    await ctx.group.parallel((step(ctx, "a"), step(ctx, "b")))


@made.add("forgets", retries=0)
async def forgets(ctx: inngest.Context) -> None:
    # It plans a step that is gone when it is asked for it.
    gone = (step(ctx, "gone"),) if note(data_of(ctx)["key"], "call") == 1 else ()
    await ctx.group.parallel((step(ctx, "a"), step(ctx, "b"), *gone))
    await step(ctx, "after")()


@made.add("nests", retries=5)
async def nests(ctx: inngest.Context) -> None:
    async def outer() -> None:
        note(data_of(ctx)["key"], "outer")
        await step(ctx, "inner")()

    await ctx.step.run("outer", outer)


@made.add("fails-beside", retries=1)
async def fails_beside(ctx: inngest.Context) -> list[Any]:
    try:
        await ctx.group.parallel((step(ctx, "good"), step(ctx, "bad", fails=True)))
    except inngest.StepError as error:
        return [error.name, error.message, await step(ctx, "after")()]
    return []


async def on_failure(ctx: inngest.Context) -> None:
    event: Any = ctx.event.data["event"]
    note(event["data"]["key"], ctx.event.data["error"])


@made.add("fails", retries=0, on_failure=on_failure)
async def fails(ctx: inngest.Context) -> None:
    raise ValueError("a bad day")


@held.add("holds")
async def holds(ctx: inngest.Context) -> str:
    note(data_of(ctx)["key"], "call")
    await asyncio.sleep(1)
    return "done"


inngest.fast_api.serve(app, client, made.functions)


@app.get("/journal")
async def read_journal(key: str) -> list[dict[str, Any]]:
    return journal.read(key)


@app.post("/send")
async def send(request: fastapi.Request) -> list[str]:
    return await client.send([inngest.Event(**event) for event in await request.json()])


async def main() -> None:
    server = Listening(app)
    if GATEWAY is None:
        await server.serve()
        return
    gateway = GATEWAY
    connection = connect([(client, held.functions)], rewrite_gateway_endpoint=lambda _: gateway, shutdown_signals=[])
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.start())
        await connection.wait_for_state(ConnectionState.ACTIVE)
        await server.serve()
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main())

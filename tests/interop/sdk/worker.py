"""The catalogue on PyPI's `inngest` as a worker: it dials the server instead of being called.

Beside it a small HTTP server answers the tests: the journal, and sending.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import fastapi
import inngest
from inngest.connect import ConnectionState, connect

from tests.interop.sdk import journal
from tests.interop.sdk.catalogue import catalogue
from tests.interop.sdk.listening import Listening

app = fastapi.FastAPI()
client = inngest.Inngest(app_id=os.environ.get("APP_ID", "py-worker"), logger=journal.logger())


@app.get("/journal")
async def read_journal(key: str) -> list[dict[str, Any]]:
    return journal.read(key)


@app.post("/send")
async def send(request: fastapi.Request) -> list[str]:
    return await client.send([inngest.Event(**event) for event in await request.json()])


async def main() -> None:
    # Its own reaction to signals: asked to end, it finishes what it does.
    connection = connect([(client, catalogue(client).functions)], instance_id="a-machine")
    server = Listening(app, signals=False)
    async with asyncio.TaskGroup() as tasks:
        connected = tasks.create_task(connection.start())
        await connection.wait_for_state(ConnectionState.ACTIVE)
        tasks.create_task(server.serve())
        await connected
        server.should_exit = True


if __name__ == "__main__":
    asyncio.run(main())

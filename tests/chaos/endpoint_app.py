"""The app that is killed while it answers: `@app.endpoint` with an engine in the process, or with a server elsewhere.

`python -m tests.chaos.endpoint_app PORT LEDGER SERVER`: SERVER is the URL of the server, or the file of the engine's
database. The ledger gets a line for each step that begins; beside it stands the server's process id.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount, Route

from perdure import App, embedded, step, stream
from perdure.model.json import Json
from perdure.serving import use_server

chaos = App("chaos")


class Killing:
    """Kills whoever is to be killed at a place, once in a case."""

    def __init__(self, request: Request) -> None:
        self.ledger: Path = request.app.state.ledger
        query = request.query_params
        self.key, self._case, self._at, self._who = (query[name] for name in ("key", "case", "at", "who"))

    def begun(self, name: str) -> None:
        with self.ledger.open("a") as file:
            file.write(f"{self.key} {name}\n")

    def at(self, place: str) -> None:
        if place != self._at:
            return
        try:
            self.ledger.with_name(f"killed.{self._case}").touch(exist_ok=False)
        except FileExistsError:
            return
        if self._who != "app":
            os.kill(int(self.ledger.with_name("server.pid").read_text()), signal.SIGKILL)
        if self._who != "server":
            os.kill(os.getpid(), signal.SIGKILL)


@chaos.endpoint(function_id="crash", retries=20)
async def crash(request: Request) -> Json:
    killing = Killing(request)

    async def work(name: str) -> str:
        killing.begun(name)
        stream.push(f"{name}1")
        # Long enough that it is heard.
        await asyncio.sleep(0.03)
        killing.at(f"in {name}")
        stream.push(f"{name}2")
        return name

    found = [await step.run("a", work, "a")]
    killing.at("before b")
    found.append(await step.run("b", work, "b"))
    await step.sleep("nap", "300ms")
    killing.at("before c")
    found.append(await step.run("c", work, "c"))
    killing.at("before d")
    found.append(await step.run("d", work, "d"))
    killing.at("at the end")
    return {"done": killing.key, "steps": found}


def main() -> None:
    port, ledger, server = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        app.state.ledger = ledger
        if server.startswith("http"):
            use_server(chaos, base_url=server, is_dev=True)
            yield
            return
        async with embedded(chaos, db=server, retry_interval=300, endpoint_grace=0.3, endpoint_silence=5) as node:
            app.mount("/engine", node.asgi())
            yield

    site = Starlette(routes=[Route("/crash", crash, methods=["GET"]), Mount("/up", Starlette())], lifespan=lifespan)
    uvicorn.run(site, port=port, log_level="warning")


if __name__ == "__main__":
    main()

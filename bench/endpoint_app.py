"""The app that `bench.endpoints` measures: a handler plain and as a durable endpoint, and some that stream or wait.

`python -m bench.endpoint_app embedded FOLDER` has an engine in the process; `remote URL` has a server record its runs.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from perdure import App, embedded, step, stream
from perdure.serving import use_server

CHUNKS = 40_000
bench = App("bench")


async def one(n: int) -> dict[str, int]:
    return {"n": n}


async def plain(request: Request) -> Response:
    found = [await one(n) for n in range(3)]
    return JSONResponse(found)


@bench.endpoint(function_id="three")
async def three(request: Request) -> Response:
    found = [await step.run(f"step {n}", one, n) for n in range(3)]
    return JSONResponse(found)


@bench.endpoint(function_id="nap")
async def nap(request: Request) -> Response:
    await step.sleep("nap", request.query_params.get("span", "1.1s"))
    return JSONResponse("awake")


@bench.endpoint(function_id="talk")
async def talk(request: Request) -> Response:
    async def say() -> int:
        async def words() -> AsyncIterator[str]:
            for n in range(CHUNKS):
                yield f"word {n} "

        return len(await stream.pipe(words()))

    if request.query_params.get("later"):
        await step.sleep("nap", "100ms")
    return JSONResponse(await step.run("talk", say))


def main() -> None:
    kind, where = sys.argv[1:]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        if kind == "remote":
            use_server(bench, base_url=where, is_dev=True)
            yield
            return
        async with embedded(bench, db=f"{where}/embedded.db"):
            yield

    routes = [Route("/plain", plain), Route("/three", three), Route("/nap", nap), Route("/talk", talk)]
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    print(f"app listens on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(Starlette(routes=routes, lifespan=lifespan), log_level="warning", access_log=False)
    uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main()

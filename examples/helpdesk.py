"""A help desk with a durable agent behind three routes: ask, follow, decide.

    export OPENAI_API_KEY=...
    uvicorn helpdesk:web --port 8000
    curl -d '{"text": "Order o-17 was charged twice"}' localhost:8000/chats
    curl -N localhost:8000/chats/RUN
    curl -d '{"approved": true}' localhost:8000/chats/RUN/calls/CALL

Kill it in mid sentence, start it again, and follow on with `curl -N -H "Last-Event-ID: ..."`: the run goes on by
itself, and nothing that was recorded is done or said again. `perdure demo agent` does so, with a model that follows a
script (helpdesk_model.py). What the tools do is noted in a ledger (shop_ledger.py).
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from perdure import App, lifespan
from perdure.agents import Agent, create_durable_agent, tool
from perdure.agents.durable import DurableRun
from perdure.agents.errors import AgentError
from shop_ledger import Ledger

ledger = Ledger(os.environ.get("ORDERS_LEDGER", "ledger.jsonl"))


@tool
def find_order(order: str) -> dict[str, object]:
    """Looks an order up."""
    ledger.call(f"{order}/find_order", 0.05)
    return {"order": order, "charged": [4200, 4200], "currency": "EUR"}


@tool(requires_approval=True)
def refund(order: str, cents: int) -> dict[str, object]:
    """Pays money back. A person must agree."""
    ledger.call(f"{order}/refund", 0.05)
    return {"order": order, "refunded": cents}


app = App("helpdesk")
desk = create_durable_agent(
    agent=Agent(
        "desk",
        model=os.environ.get("HELPDESK_MODEL", "openai/gpt-5.5"),
        instructions="Look orders up before you decide. Pay back what was charged too often.",
        tools=[find_order, refund],
    ),
    app=app,
)


async def ask(request: Request) -> Response:
    """Begins a chat; the same `run_id` is the same chat."""
    body = await request.json()
    run = await desk.stream(body["text"], run_id=body.get("run_id"))
    await run.close()
    return JSONResponse({"run_id": run.run_id}, 201)


async def events(run: DurableRun) -> AsyncGenerator[str]:
    async for chunk in run.full_stream:
        # What is not in the log has no place in it.
        place = f"id: {chunk.index}\n" if chunk.index > 0 else ""
        yield f"{place}data: {json.dumps(chunk)}\n\n"


async def follow(request: Request) -> Response:
    """The stream of a chat, from after `Last-Event-ID`."""
    run = await desk.observe(request.path_params["run"], last_event_id=request.headers.get("last-event-id"))
    return StreamingResponse(events(run), media_type="text/event-stream")


async def decide(request: Request) -> Response:
    """Approves or declines what the agent asked for."""
    run, call = request.path_params["run"], request.path_params["call"]
    await (await desk.resume(run, await request.json(), tool_call_id=call)).close()
    return JSONResponse({"run_id": run})


async def health(request: Request) -> Response:
    return PlainTextResponse("ok")


async def refused(request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, AgentError) else 500
    return JSONResponse({"error": str(error)}, status)


web = Starlette(
    routes=[
        Route("/chats", ask, methods=["POST"]),
        Route("/chats/{run}", follow),
        Route("/chats/{run}/calls/{call}", decide, methods=["POST"]),
        Route("/health", health),
    ],
    lifespan=lifespan(app, db=os.environ.get("HELPDESK_DB", "helpdesk.db")),
    exception_handlers={AgentError: refused},
)

"""A shop whose functions run in its own web server, called by a perdure server elsewhere.

PERDURE_DEV=1 uvicorn served_app:web --port 8000
perdure dev -u http://localhost:8000/api/inngest
curl -X POST http://localhost:8000/orders/17
"""

from __future__ import annotations

import asyncio

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import perdure
from perdure import App, Context, step

shop = App("served-shop")


@shop.function("fulfil", trigger="served/order.created", retries=3)
async def fulfil(ctx: Context) -> str:
    """Reserves and charges beside each other; then waits for the parcel to be collected."""
    order: str = ctx.event.data["order"]
    await asyncio.gather(step.run("reserve", reserve, order), step.run("charge", charge, order))
    collected = await step.wait_for_event("collected", event="served/order.collected", timeout="1d", match="data.order")
    return f"order {order} was {'collected' if collected else 'left behind'}"


def reserve(order: str) -> str:
    return f"shelf of order {order}"


def charge(order: str) -> str:
    return f"receipt of order {order}"


async def create(request: Request) -> JSONResponse:
    """Takes an order: what follows from it goes on in the background, whatever becomes of this process."""
    (event_id,) = await shop.send({"name": "served/order.created", "data": {"order": request.path_params["order"]}})
    return JSONResponse({"event": event_id}, status_code=202)


web = Starlette(
    routes=[
        Route("/api/inngest", perdure.serve(shop)),
        Route("/orders/{order}", create, methods=["POST"]),
    ]
)

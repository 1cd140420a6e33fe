"""A shop: what happens to an order from `shop/order.created` on. `perdure demo` runs it and kills it.

    ORDERS_LEDGER=ledger.jsonl perdure dev orders_app:app

Steps that run at the same time, a carrier that is busy at first, a cooling-off sleep, an approval for large orders,
and a function of its own for shipping. What the steps do to the world outside goes to a ledger (shop_ledger.py).
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from decimal import Decimal
from zlib import crc32

from perdure import App, Concurrency, Context, RetryAfterError, step
from shop_ledger import Ledger

LARGE = Decimal(300)
COOLING_OFF = os.environ.get("ORDERS_COOLING_OFF", "1s")

app = App("shop")
ledger = Ledger(os.environ.get("ORDERS_LEDGER", "ledger.jsonl"))


@dataclass
class Charge:
    """A payment. Steps return it, and replays get it back as what it is."""

    reference: str
    amount: Decimal
    currency: str


@dataclass
class Shipment:
    run_id: str
    tracking: str


def charge(order_id: str, amount: Decimal, currency: str) -> Charge:
    ledger.call(f"{order_id}/charge", 0.05)
    return Charge(f"ch_{order_id}", amount, currency)


def reserve(order_id: str, sku: str, qty: int) -> int:
    ledger.call(f"{order_id}/reserve {sku}", 0.03)
    return qty


def book_carrier(order_id: str) -> str:
    key = f"{order_id}/book carrier"
    # About every seventh booking meets a busy carrier, once.
    if crc32(order_id.encode()) % 7 == 0 and ledger.turn_away_once(key):
        raise RetryAfterError("the carrier is busy", retry_after=1)
    ledger.call(key, 0.05)
    return f"TRACK-{crc32(order_id.encode()):08X}"


def print_label(order_id: str, tracking: str, country: str) -> str:
    ledger.call(f"{order_id}/print label", 0.03)
    return f"{tracking}-{country}"


def confirm(order_id: str, email: str, tracking: str) -> None:
    ledger.call(f"{order_id}/confirm", 0.02)


@app.function("ship")
async def ship(ctx: Context) -> Shipment:
    """Has no trigger: it is invoked."""
    order = ctx.event.data
    tracking = await step.run("book carrier", book_carrier, order["order_id"])
    await step.run("print label", print_label, order["order_id"], tracking, order["country"])
    return Shipment(ctx.run_id, tracking)


@app.function(
    "fulfil",
    trigger="shop/order.created",
    concurrency=Concurrency(40),
    priority="event.data.express ? 60 : 0",
)
async def fulfil(ctx: Context) -> dict[str, object]:
    order = ctx.event.data
    order_id, total = order["order_id"], Decimal(order["total"])

    paid = await step.run("charge", charge, order_id, total, order["currency"])
    await asyncio.gather(
        *[step.run(f"reserve {item['sku']}", reserve, order_id, item["sku"], item["qty"]) for item in order["items"]]
    )
    await step.sleep("cooling-off", COOLING_OFF)

    if total >= LARGE:
        approved = await step.wait_for_event(
            "approval", event="shop/order.approved", match="data.order_id", timeout="1d"
        )
        if approved is None:
            return {"order_id": order_id, "status": "not approved"}

    shipment = await step.invoke("ship", ship, data={"order_id": order_id, "country": order["address"]["country"]})
    await step.run("confirm", confirm, order_id, order["customer"]["email"], shipment.tracking)
    ctx.logger.info("order %s is on its way: %s", order_id, shipment.tracking)
    return {"order_id": order_id, "status": "shipped", "paid": paid, "shipment": shipment}

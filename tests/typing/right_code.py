"""What users write, with the types that they get: both type checkers accept every line, in strict mode."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import assert_type

from perdure import App, CancelOn, Concurrency, Context, Cron, Event, Function, on, step
from perdure.sdk.port import FetchResponse
from perdure.sdk.step import Signal
from perdure.sync import step as sync_step


@dataclass
class Order:
    id: str
    total: int


async def load(order_id: str) -> Order:
    return Order(order_id, 1)


def charge(order: Order, *, currency: str = "EUR") -> int:
    return order.total


def later() -> Awaitable[float]:
    return asyncio.sleep(0, 1.5)


class Shop:
    async def ship(self, order: Order) -> bool:
        return bool(order)


app = App("shop")


@app.function("ship", trigger=[on("shop/paid", if_="event.data.n > 1"), Cron("@daily"), "shop/*"])
async def ship(ctx: Context) -> Order:
    return await step.run("load", load, ctx.event.data["id"])


@app.function("count", concurrency=[Concurrency(1, key="event.data.id")], cancel_on=CancelOn("a", match="data.id"))
def count(ctx: Context) -> int:
    order = sync_step.run("load", load, "1")
    assert_type(order, Order)
    assert_type(sync_step.run("charge", charge, order, currency="USD"), int)
    assert_type(sync_step.invoke("ship", ship), Order)
    assert_type(sync_step.wait_for_event("e", event="a", timeout="1h"), Event | None)
    assert_type(sync_step.with_(retries=2).run("later", later), float)
    sync_step.sleep("nap", 5)
    return 1


@app.function("untyped", on_failure=lambda ctx: ctx.logger.error("failed"))
async def untyped(ctx):  # type: ignore[no-untyped-def]  # pyright: ignore
    return await step.run("x", load, "1")


@app.function("fulfil", trigger="shop/order.created", retries=2)
async def fulfil(ctx: Context) -> dict[str, int]:
    order = await step.run("load", load, ctx.event.data["id"])
    assert_type(order, Order)
    assert_type(await step.run("charge", charge, order, currency="USD"), int)
    assert_type(await step.run("later", later), float)
    assert_type(await step.run("ship", Shop().ship, order), bool)
    assert_type(await step.run("partial", partial(charge, currency="USD"), order), int)
    assert_type(await step.run("lambda", lambda: order.total), int)
    assert_type(await step.ai.wrap("ask", charge, order), int)
    assert_type(await step.with_(retries=1, timeout="5s").run("slow", load, "1"), Order)

    assert_type(await step.invoke("by function", ship, data={"id": 1}, timeout=timedelta(days=1)), Order)
    assert_type(await step.invoke("plain", count), int)
    await step.invoke("by slug", "other-app-function")

    await step.sleep("nap", "1h")
    await step.sleep_until("noon", datetime(2026, 11, 22, 12, tzinfo=UTC))
    assert_type(await step.wait_for_event("paid", event="shop/paid", match="data.id", timeout=60), Event | None)
    assert_type(await step.wait_for_signal("go", signal="go", timeout="1h"), Signal | None)
    assert_type(await step.send_signal("tell", signal="go", data=[1]), bool)
    assert_type(await step.send_event("send", [{"name": "a"}, Event("b", {})]), list[str])
    assert_type(await step.fetch("get", "https://example.com", headers={"a": "b"}, body={"n": 1}), FetchResponse)

    first, second = await asyncio.gather(step.run("a", load, "1"), step.run("b", charge, order))
    assert_type((first, second), tuple[Order, int])
    async with asyncio.TaskGroup() as group:
        task = group.create_task(step.run("c", load, "1"))
    assert_type(task.result(), Order)
    ctx.logger.info("done %s", ctx.run_id)
    return {"total": order.total}


async def use(ctx: Context) -> None:
    assert_type(await ship(ctx), Order)
    assert_type(count(ctx), int)
    functions: list[Function[object]] = list(app.functions.values())
    assert functions
    assert_type(await app.send({"name": "a"}), list[str])
    await app.send([Event("a", {"n": 1})])

"""What users get wrong: each marked line must fail in mypy and in pyright (`# E: code, rule`)."""

from __future__ import annotations

from perdure import App, CancelOn, Concurrency, Context, Cron, Priority, step
from perdure.sync import step as sync_step


async def load(order_id: str) -> int:
    return len(order_id)


def charge(total: int, *, currency: str = "EUR") -> str:
    return f"{total} {currency}"


app = App(5)  # E: arg-type, reportArgumentType


@app.function("ship")
async def ship(ctx: Context) -> int:
    return 1


async def no_context() -> int:
    return 1


async def other_context(ctx: int) -> int:
    return ctx


app.function("a")(no_context)  # E: arg-type, reportCallIssue
app.function("b")(other_context)  # E: arg-type, reportCallIssue
app.function("c", triger="shop/paid")  # E: call-arg, reportCallIssue
app.function("d", retries="3")  # E: arg-type, reportArgumentType
app.function("e", trigger=Priority("1"))  # E: arg-type, reportArgumentType
app.function("f", concurrency="5")  # E: arg-type, reportArgumentType
app.function("g", cancel_on="shop/cancelled")  # E: arg-type, reportArgumentType
app.function("h", on_failure=no_context)  # E: arg-type, reportArgumentType
Concurrency(1, scope="run")  # E: arg-type, reportArgumentType
Cron("@daily", missed="never")  # E: arg-type, reportArgumentType
CancelOn("a", if_=True)  # E: arg-type, reportArgumentType


async def handler(ctx: Context) -> None:
    await step.run("a", load)  # E: call-overload, reportCallIssue
    await step.run("b", load, 5)  # E: call-overload, reportCallIssue
    await step.run("c", load("1"))  # E: call-overload, reportCallIssue
    await step.run("d", charge, 5, curency="USD")  # E: call-arg, reportCallIssue
    await step.run(load, "1")  # E: call-overload, reportCallIssue
    text: str = await step.run("e", load, "1")  # E: call-overload, reportAssignmentType
    number: int = await step.run("f", charge, 5)  # E: call-overload, reportAssignmentType
    shipped: str = await step.invoke("g", ship)  # E: arg-type, reportAssignmentType
    await step.invoke("h", load)  # E: call-overload, reportCallIssue
    await step.invoke("i", ship, data=[1])  # E: call-overload, reportCallIssue
    await step.sleep("j", None)  # E: arg-type, reportArgumentType
    await step.sleep("k")  # E: call-arg, reportCallIssue
    await step.sleep_until("l", 1.5)  # E: arg-type, reportArgumentType
    await step.wait_for_event("m", event="a")  # E: call-arg, reportCallIssue
    event = await step.wait_for_event("n", event="a", timeout=1)
    print(event.data)  # E: union-attr, reportOptionalMemberAccess
    _ = step.wait_for_signal("o", signal="a", timeout=1, on_conflict="no")  # E: arg-type, reportArgumentType
    await step.send_event("p", "shop/paid")  # E: arg-type, reportArgumentType
    await step.with_(retries="3").run("q", load, "1")  # E: arg-type, reportArgumentType
    step.run("r", load, "1")  # E: unused-coroutine, reportUnusedCoroutine
    print(ctx.step)  # E: attr-defined, reportAttributeAccessIssue
    print(text, number, shipped)


def plain(ctx: Context) -> None:
    total: str = sync_step.run("a", load, "1")  # E: assignment, reportAssignmentType
    sync_step.run("b", charge, "5")  # E: call-overload, reportCallIssue
    sync_step.invoke("c", ship, timeout=[1])  # E: call-overload, reportCallIssue
    print(total)

"""Apps that do everything that the page shows: runs that end, fail, wait and speak, limits, schedules, agents."""

from __future__ import annotations

import asyncio
from typing import Final

from perdure import App, Concurrency, Context, Cron, NonRetriableError, step, stream
from perdure.agents import Agent, Memory, ToolContext, create_durable_agent, tool
from perdure.model.json import Json
from perdure.testing import ScriptedModel

MARKUP: Final = '<img src=x onerror="alert(1)"><script>alert(2)</script>&amp;\'"'
"""What must stay text wherever it is shown."""


class Flaky:
    """A service that fails until it is mended."""

    def __init__(self) -> None:
        self.mended = False

    def call(self) -> str:
        if not self.mended:
            raise ConnectionError(f"the printer is out of paper {MARKUP}")
        return "printed"


def page_apps(flaky: Flaky, hold: asyncio.Event) -> list[App]:
    """The apps. Runs of "hold" go on once `hold` is set."""
    shop = App("shop")

    @shop.function("fulfil", name="Fulfil an order", trigger="shop/order.placed")
    async def fulfil(ctx: Context) -> Json:
        order: Json = ctx.event.data
        await step.run("reserve stock", lambda: {"order": order, "shelf": "A-17"})
        charged = await asyncio.gather(
            step.run("charge the card", lambda: 4200), step.run("write to the customer", lambda: "Dear Ada")
        )
        await step.sleep("wait for the courier", order.get("courier", "5m"))
        return {"charged": charged, "note": order.get("note")}

    @shop.function("broken", name="Print a label", trigger="shop/label.wanted", retries=0)
    async def broken(ctx: Context) -> str:
        await step.run("open the tray", lambda: MARKUP)
        raise NonRetriableError(f"no labels left {MARKUP}")

    @shop.function("waiting", name="Approve a refund", trigger="shop/approval.asked")
    async def waiting(ctx: Context) -> Json:
        event = await step.wait_for_event("wait for approval", event="shop/approved", timeout="2d")
        return None if event is None else event.data

    @shop.function("sleeper", name="Remind a customer", trigger="shop/sleep")
    async def sleeper(ctx: Context) -> str:
        await step.sleep("long nap", "3d")
        return "awake"

    @shop.function("retrying", name="Print an invoice", trigger="shop/print", retries=5)
    async def retrying(ctx: Context) -> str:
        return await step.run("call the printer", flaky.call)

    @shop.function(
        "hold", name="Pack a parcel", trigger="shop/hold", concurrency=[Concurrency(limit=1, key="event.data.who")]
    )
    async def hold_on(ctx: Context) -> str:
        await step.run("hold the key", hold.wait)
        return "let go"

    @shop.function("report", name="Daily report", trigger=Cron("0 8 * * *"))
    async def report(ctx: Context) -> str:
        return "sent"

    @shop.function("letter", name="Write a letter", trigger="shop/letter")
    async def letter(ctx: Context) -> str:
        attempts: list[int] = []

        async def write() -> str:
            attempts.append(1)
            stream.push(f"Dear {MARKUP} ")
            if len(attempts) == 1:
                raise RuntimeError("the ink ran out")
            stream.push("kind regards")
            return "written"

        return await step.run("write", write)

    return [shop, _helpdesk()]


def _helpdesk() -> App:
    helpdesk = App("helpdesk")
    helpdesk.add_model("mock/model", ScriptedModel(name="mock/model"))

    @helpdesk.function("marked", name=f"Marked {MARKUP}", trigger="helpdesk/marked")
    async def marked(ctx: Context) -> Json:
        return await step.run(f"step {MARKUP}", lambda: {MARKUP: MARKUP})

    @tool(requires_approval=True, edit_args=True)
    def refund(order: str, cents: int) -> dict[str, object]:
        """Pays money back."""
        return {"order": order, "refunded": cents}

    @tool(resume_schema={"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]})
    def unlock(door: str, ctx: ToolContext) -> str:
        """Asks for a code."""
        if ctx.resume_data is None:
            ctx.suspend({"door": door, "note": MARKUP})
        return f"{door} opens with {ctx.resume_data['code']}"

    @tool
    def jam() -> str:
        """Fails."""
        raise ValueError(f"no paper {MARKUP}")

    @tool(background=True)
    async def research(topic: str) -> dict[str, str]:
        """Reads about a topic until it is told to end."""
        await asyncio.Event().wait()
        return {"topic": topic}

    @tool(requires_approval=True)
    def burn(what: str) -> str:
        """Burns something; nobody may say something else."""
        return f"burnt {what} {MARKUP}"

    helper = Agent("helper", name=f"Helper {MARKUP}", model=ScriptedModel(), tools=[burn], description="Burns things.")
    desk = Agent(
        "desk", name="Help desk", model=ScriptedModel(), instructions=f"Be kind. {MARKUP}", description=MARKUP,
        tools=[refund, unlock, jam, research], agents=[helper], memory=Memory(),
    )  # fmt: skip
    create_durable_agent(agent=desk, app=helpdesk)
    helpdesk.add_agent(Agent("walk-in", name=f"Walk-in {MARKUP}", model=ScriptedModel(), tools=[burn], memory=Memory()))
    return helpdesk

"""The three-step function for Restate; served by hypercorn as `bench.subjects.restate_app:app`."""

from __future__ import annotations

import restate

three = restate.Service("three")


async def number(n: int) -> dict[str, int]:
    return {"n": n}


@three.handler()
async def run(ctx: restate.Context, n: int) -> dict[str, int]:
    await ctx.run_typed("a", number, n=1)
    await ctx.run_typed("b", number, n=2)
    return await ctx.run_typed("c", number, n=3)


app = restate.app([three])

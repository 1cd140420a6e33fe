"""The process that is killed in mid stream: a run that talks, and one listener that prints what it hears.

`python -m tests.chaos.streaming_worker DATABASE OFFSET`: takes the run up, or starts it, and prints each event of its
stream after the offset as a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys

from perdure import App, Context, embedded, step, stream

STEPS = 4
CHUNKS = 25


def talking_app() -> App:
    app = App("chaos")

    async def talk(number: int) -> str:
        async def words() -> str:
            for chunk in range(CHUNKS):
                stream.push([number, chunk])
                await asyncio.sleep(0.004 if chunk % 5 else 0)
            return "said"

        return await words()

    @app.function("talk", retries=0, trigger="talk")
    async def handler(ctx: Context) -> list[str]:
        first = [await step.run(f"say {number}", talk, number) for number in range(STEPS - 2)]
        await step.sleep("a moment", "20ms")
        return first + await asyncio.gather(
            *(step.run(f"say {number}", talk, number) for number in range(STEPS - 2, STEPS))
        )

    return app


async def main(db: str, offset: int) -> None:
    async with embedded(talking_app(), db=db) as engine:
        run = await engine.trigger("chaos-talk", id="the one")
        async for event in run.stream(offset):
            print(json.dumps([event.offset, event.kind, event.step, event.data]), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))

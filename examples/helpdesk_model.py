"""A model for the help desk (helpdesk.py) that follows a script, behind OpenAI's API: for trying it without a key.

    python helpdesk_model.py --port 8100
    OPENAI_BASE_URL=http://127.0.0.1:8100/v1 OPENAI_API_KEY=any uvicorn helpdesk:web --port 8000

What it says depends on the conversation alone, so a repeated request is answered the same. It takes its time: a word
every 45 ms.
"""

from __future__ import annotations

import argparse
import asyncio

from perdure.testing.openai_stub import OpenAIStub
from perdure.testing.script import Asked, Piece, Text, ToolCall

SAID = (
    "Let me look at order o-17.",
    "Order o-17 was charged twice: 42.00 euros belong to you. I ask somebody to agree to paying them back.",
    "It is agreed, and 42.00 euros are on their way to you. We are sorry for the trouble.",
)
PAUSE = 45


def answer(asked: Asked) -> list[Piece]:
    """The turn that is next: after no tool call, after the first, or after the second."""
    text = Text(SAID[min(asked.calls, 2)], pause=PAUSE)
    if asked.calls == 0:
        return [text, ToolCall("find_order", {"order": "o-17"}, id="look-1")]
    if asked.calls == 1:
        return [text, ToolCall("refund", {"order": "o-17", "cents": 4200}, id="refund-1")]
    return [text]


async def main(port: int) -> None:
    async with OpenAIStub(answer, port=port) as stub:
        print(stub.base_url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="A scripted model behind OpenAI's API.")
    arguments.add_argument("--port", type=int, default=8100)
    asyncio.run(main(arguments.parse_args().port))

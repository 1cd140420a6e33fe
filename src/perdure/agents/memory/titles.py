"""Titles of threads: what a model is asked for one, and what of its answer is taken."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from perdure.agents.memory.settings import Titles
from perdure.agents.messages import Message
from perdure.model.json import Json

MOST: Final = 80
"""Characters of a title."""
_EXCERPT: Final = 2_000
_SYSTEM: Final = (
    f"Give this conversation a title of at most {MOST} characters that says what the person wants. "
    "Answer with the title alone: no quotation marks, no colon, no explanation."
)


class TitlePrompt(msgspec.Struct):
    """What to ask: the system's text, the user's, and by which model (None: the agent's)."""

    system: str
    user: str
    model: Json = None


def prompt(titles: Titles, messages: Sequence[Message]) -> TitlePrompt | None:
    """What to ask for a title of these messages; None where nobody has said anything yet."""
    said = next((message.text for message in messages if message.role == "user" and message.text), "")
    answer = next((message.text for message in messages if message.role == "assistant" and message.text), "")
    if not said:
        return None
    user = f"User: {said[:_EXCERPT]}" + (f"\nAssistant: {answer[:_EXCERPT]}" if answer else "")
    return TitlePrompt(titles.instructions or _SYSTEM, user, titles.model)


def cleaned(text: str) -> str:
    """A title of what a model answered: one line, without quotation marks around it, not too long.

    >>> cleaned('  "A trip to Rome"\\nBecause ...')
    'A trip to Rome'
    """
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = re.sub(r"\s+", " ", line).strip("\"'`“”«» ")
    if len(line) <= MOST:
        return line
    return line[: line.rfind(" ", MOST // 2, MOST) if " " in line[MOST // 2 : MOST] else MOST].rstrip()

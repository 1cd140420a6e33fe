"""Filters: what of a thread's history the model need not see. They change what is read, never what is kept."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import msgspec

from perdure.agents.messages import Message, Part, ReasoningPart, TextPart, ToolPart
from perdure.model.json import encode


class MessageFilter(Protocol):
    """Gives the messages that stay, oldest first; any callable with this shape will do, also a coroutine function."""

    def __call__(self, messages: list[Message]) -> list[Message]: ...


class WithoutToolCalls:
    """Leaves out calls of tools with their results: all, or those of some tools. Messages left empty go too."""

    def __init__(self, exclude: Collection[str] | None = None) -> None:
        self._exclude = None if exclude is None else frozenset(exclude)

    def __call__(self, messages: list[Message]) -> list[Message]:
        kept: list[Message] = []
        for message in messages:
            parts = [part for part in message.parts if not self._drops(part)]
            if len(parts) == len(message.parts):
                kept.append(message)
            elif any(isinstance(part, TextPart | ToolPart) for part in parts):
                kept.append(msgspec.structs.replace(message, parts=parts))
        return kept

    def _drops(self, part: Part) -> bool:
        if not isinstance(part, ToolPart):
            return False
        return self._exclude is None or part.tool_invocation.tool_name in self._exclude


class RecentTokens:
    """Keeps the newest messages that together have at most so many tokens, guessed at four characters each."""

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"limit: must be 1 or more, got {limit}")
        self._limit = limit

    def __call__(self, messages: list[Message]) -> list[Message]:
        kept, left = 0, self._limit * 4
        for message in reversed(messages):
            left -= _size(message.parts)
            if left < 0:
                break
            kept += 1
        return messages[len(messages) - kept :]


def _size(parts: Sequence[Part]) -> int:
    size = 0
    for part in parts:
        if isinstance(part, TextPart | ReasoningPart):
            size += len(part.text)
        elif isinstance(part, ToolPart):
            call = part.tool_invocation
            size += len(encode(call.args)) + len(encode(call.result)) + len(call.tool_name)
    return size

"""A storage of agents for tests, on the store that the test runs on; its clock is set by hand, and its ids count."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from perdure import embedding
from perdure.agents.messages import Message, Role, TextPart
from perdure.agents.storage import AgentRun, AgentStorage


class Hands:
    """A clock (ms) that stands until it is moved."""

    def __init__(self, at: int = 1_000) -> None:
        self.at = at

    def __call__(self) -> int:
        return self.at


@asynccontextmanager
async def storing(
    path: Path | str = ":memory:", clock: Hands | None = None, prefix: str = "id"
) -> AsyncGenerator[AgentStorage]:
    """A storage for the length of a block."""
    count = itertools.count(1)
    store = embedding.make_store(path)  # type: ignore[attr-defined]  # replaced for tests on PostgreSQL
    await store.open()
    try:
        yield AgentStorage(store, now=clock or Hands(), ids=lambda: f"{prefix}-{next(count)}")
    finally:
        await store.close()


def said(
    id: str, text: str = "hello", *, thread: str = "t", resource: str = "u", role: Role = "user", at: int = 1_000
) -> Message:
    """A message of one text."""
    return Message(id, role, [TextPart(text)], at, thread, resource)


def a_run(run_id: str = "r", *, thread: str | None = "t", input_hash: str = "h", agent: str = "ops") -> AgentRun:
    """A run that somebody began."""
    return AgentRun(run_id, agent, "1", input_hash, thread_id=thread, resource_id="u" if thread else None)

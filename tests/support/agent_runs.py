"""Agents on scripted models, and what their runs say, for the tests of the loop."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Unpack

from perdure.agents.agent import Agent, Surroundings
from perdure.agents.chunks import Chunk
from perdure.agents.options import RunKeywords
from perdure.agents.results import AgentRun
from perdure.model.json import Json
from perdure.testing.models import ScriptedModel
from perdure.testing.script import Turn

_STREAMED = frozenset({"text-delta", "tool-call-delta", "reasoning-delta"})


async def no_pause(_: float) -> None:
    """A pause of retries that takes no time."""


def scripted(*turns: Turn, **declared: Json) -> tuple[Agent, ScriptedModel]:
    """An agent `a1` whose model plays these turns; ids and time are the same in every test."""
    model = ScriptedModel(list(turns) or None, sleep=no_pause)
    given: Json = {"model": model, **declared}
    agent = Agent("a1", **given)
    ids, ticks = count(), count(1_000)
    agent.surroundings = Surroundings(now=lambda: next(ticks), new_id=lambda: f"run-{next(ids)}", sleep=no_pause)
    return agent, model


async def chunks_of(run: AgentRun) -> list[Chunk]:
    """Everything that a run says, to the end of its segment."""
    return [said async for said in run.full_stream]


async def said_by(agent: Agent, messages: Json = "go", **options: Unpack[RunKeywords]) -> list[Chunk]:
    """Everything that a new run says, to the end of its segment."""
    return await chunks_of(await agent.stream(messages, **options))


def kinds(chunks: Sequence[Chunk]) -> str:
    """The kinds of chunks in order, each run of deltas as one."""
    found: list[str] = []
    for said in chunks:
        if said.type not in _STREAMED or not found or found[-1] != said.type:
            found.append(said.type)
    return " ".join(found)


def only(chunks: Sequence[Chunk], kind: str) -> list[Json]:
    """The payloads of the chunks of a kind."""
    return [said.payload for said in chunks if said.type == kind]

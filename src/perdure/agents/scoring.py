"""Scorers: functions that judge what a run has come to, each for a share of the runs.

They are called in the step `finish`, once the answer stands, and what they give is told as `score` chunks. One that
fails or takes too long is a score with an error: it never changes how the run ends.

Invariant: whether a scorer judges a run follows from the run's id, so that a replay decides the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import msgspec

from perdure.agents import said
from perdure.agents.chunks import Chunk, chunk
from perdure.agents.messages import Message
from perdure.model import values
from perdure.model.errors import ConfigError
from perdure.model.json import Json, decode

TIMEOUT: Final = 60.0
"""Seconds that a scorer may take."""


class Judged(msgspec.Struct):
    """What a scorer judges: the input of a run, what it has added to the conversation, and its answer."""

    run_id: str
    agent_id: str
    input: list[Message]
    output: list[Message]
    text: str
    object: Json
    request_context: dict[str, Json]


Judge: TypeAlias = Callable[[Judged], Json]
"""Gives a score: a number, or `{"score": ..., "reason": ...}`. A plain function, or a coroutine function."""


class Scorer(msgspec.Struct, frozen=True):
    """A judge, and for which share of the runs it is asked, from 0 to 1.

    >>> Scorer(lambda judged: len(judged.text), share=0.1).share
    0.1
    """

    judge: Judge
    share: float = 1.0


def scorers_of(given: Mapping[str, Json]) -> dict[str, Scorer]:
    """Scorers by name, each a `Scorer` or a judge alone. Raises `ConfigError`."""
    if not isinstance(given, Mapping):
        raise ConfigError("scorers", [f"must be judges by name, got {given!r}"])
    found: dict[str, Scorer] = {}
    problems: list[str] = []
    for name, item in given.items():
        judge: Json = item.judge if isinstance(item, Scorer) else item
        share: Json = item.share if isinstance(item, Scorer) else 1.0
        if not callable(judge):
            problems.append(f"{name}: must be a function, got {judge!r}")
        elif not isinstance(share, int | float) or not 0 <= share <= 1:
            problems.append(f"{name}.share: must be from 0 to 1, got {share!r}")
        else:
            found[name] = Scorer(judge, share)
    if problems:
        raise ConfigError("scorers", problems)
    return found


def chosen(scorers: Mapping[str, Scorer], shares: Mapping[str, float] | None, run_id: str) -> dict[str, Judge]:
    """The judges of a run; `shares`, where they are given, say which ones and for how many of the runs."""
    asked = {name: item.share for name, item in scorers.items()} if shares is None else shares
    return {
        name: scorers[name].judge for name, share in asked.items() if name in scorers and _place(run_id, name) < share
    }


async def scores(judges: Mapping[str, Judge], judged: Judged) -> list[dict[str, Json]]:
    """What each judge gives, in order: `{scorer, score, reason?}`, or `{scorer, error}`."""
    return list(await asyncio.gather(*(_score(name, judge, judged) for name, judge in judges.items())))


def told(run_id: str, score: dict[str, Json]) -> Chunk:
    """The chunk that tells of a score."""
    return chunk("score", run_id, **score)


async def _score(name: str, judge: Judge, judged: Judged) -> dict[str, Json]:
    try:
        async with asyncio.timeout(TIMEOUT):
            if inspect.iscoroutinefunction(judge):
                found = await judge(judged)
            else:
                found = await asyncio.to_thread(judge, judged)
                found = await found if inspect.isawaitable(found) else found
        return {"scorer": name, **_read(found)}
    except Exception as error:
        # A judge is the user's, and may fail in any way.
        return {"scorer": name, "error": said.told_error(error)}


def _read(found: Json) -> dict[str, Json]:
    given = found if isinstance(found, Mapping) else {"score": found}
    score = given.get("score")
    if not isinstance(score, int | float):
        raise TypeError(f'must give a number, or {{"score": a number, "reason": ...}}; got {found!r}')
    read: dict[str, Json] = decode(values.encode({**given, "score": float(score)}, where="score"))
    return read


def _place(run_id: str, name: str) -> float:
    """Where a run stands among all, from 0 to 1 (less than 1), for one scorer."""
    digest = hashlib.sha256(f"{run_id}/{name}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48

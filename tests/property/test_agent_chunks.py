"""What is taken back leaves no trace, and objects only grow while they come."""

from __future__ import annotations

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from perdure.agents.chunks import Chunk, chunk
from perdure.agents.fold import Fold
from perdure.agents.results import result_of
from perdure.agents.structured import ObjectStream
from perdure.model.json import Json

pieces = st.lists(st.sampled_from(["a", "b ", "cd"]), max_size=4)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=5) | st.floats(-9, 9, allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


def said(kind: str, **payload: Json) -> Chunk:
    return chunk(kind, "r", **payload)


def model_step(number: int, texts: list[str], calls: list[str], *, finished: bool = True) -> list[Chunk]:
    """What `llm:<n>` says, or the beginning of it."""
    chunks = [said("step-start", stepId=f"llm:{number}", messageId=f"m{number}"), said("text-start", id="t")]
    chunks += [said("text-delta", id="t", text=text) for text in texts]
    chunks += [said("tool-call", toolCallId=call, toolName="add", args={"x": 1}) for call in calls]
    return chunks if finished else chunks[: 1 + len(chunks) // 2]


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[Chunk], list[Chunk]]:
    """A run without failures, and the same one with attempts that failed and were taken back."""
    smooth: list[Chunk] = []
    rough: list[Chunk] = []
    for number in range(draw(st.integers(1, 3))):
        calls = [f"c{number}{place}" for place in range(draw(st.integers(0, 2)))]
        texts = draw(pieces)
        for attempt in range(draw(st.integers(0, 2))):
            rough += model_step(number, draw(pieces), [], finished=False)
            rough.append(said("step-rollback", stepId=f"llm:{number}", fromIndex=0, attempt=attempt))
        for chunks in (smooth, rough):
            chunks += model_step(number, texts, calls)
        for call in draw(st.permutations(calls)):
            answer = said("tool-result", toolCallId=call, toolName="add", args={"x": 1}, result=call)
            if draw(st.booleans()):
                rough += [answer, said("step-rollback", stepId=f"tool:{call}", fromIndex=0, attempt=0)]
            smooth.append(answer)
            rough.append(answer)
        usage = {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}
        ended = said("step-finish", stepResult={"reason": "stop"}, output={"usage": usage})
        smooth.append(ended)
        rough.append(ended)
    return smooth, rough


def folded(chunks: list[Chunk]) -> Fold:
    fold = Fold()
    for item in chunks:
        fold.take(item)
    return fold


@given(runs())
def test_what_was_taken_back_leaves_no_trace(found: tuple[list[Chunk], list[Chunk]]) -> None:
    smooth, rough = (result_of(folded(chunks), "r", None, None) for chunks in found)
    assert rough == smooth


@given(runs())
def test_looking_in_between_changes_nothing(found: tuple[list[Chunk], list[Chunk]]) -> None:
    fold = Fold()
    for item in found[1]:
        fold.take(item)
        _ = fold.text
    assert result_of(fold, "r", None, None) == result_of(folded(found[1]), "r", None, None)


@given(st.dictionaries(st.text(max_size=4), values, max_size=4), st.integers(1, 9), st.booleans())
def test_an_object_that_comes_in_pieces(found: dict[str, Json], size: int, ascii_only: bool) -> None:
    text = json.dumps(found, ensure_ascii=ascii_only)
    stream, seen = ObjectStream(), []
    for start in range(0, len(text), size):
        partial = stream.feed(text[start : start + size])
        if partial is not None:
            seen.append(partial)
    assert seen[-1] == found
    assert all(set(partial) <= set(found) for partial in seen)
    assert all(one != other and _size(one) <= _size(other) for one, other in itertools.pairwise(seen))


def _size(value: Json) -> int:
    """How many values there are in it."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_size, inner))

"""The dialect against recorded answers of the Inngest server, and our deliberate differences from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perdure.expressions import EvaluationError, ExpressionError, compile
from perdure.model.json import Json

_GOLDEN: Json = json.loads((Path(__file__).parents[2] / "wire" / "expressions.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", _GOLDEN["cases"], ids=lambda case: str(case["expr"]))
def test_recorded_answer(case: Json) -> None:
    def answer() -> Json:
        return compile(case["expr"]).evaluate(_GOLDEN["scope"], now=_GOLDEN["now"])

    if case.get("error") == "compile":
        with pytest.raises(ExpressionError):
            compile(case["expr"])
    elif case.get("error") == "evaluate":
        with pytest.raises(EvaluationError):
            answer()
    else:
        assert answer() == case["value"]
        assert isinstance(answer(), bool) == isinstance(case["value"], bool)


def test_every_difference_from_the_recorded_answers_gives_its_reason() -> None:
    for case in _GOLDEN["cases"]:
        assert ("peer" in case) == bool(case.get("deviation"))

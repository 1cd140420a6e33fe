"""The examples of docs/expressions.md give what the page says."""

from __future__ import annotations

import json
import re
from pathlib import Path

from perdure.expressions import compile
from perdure.model.json import Json


def test_examples_of_the_page() -> None:
    page = (Path(__file__).parents[3] / "docs" / "expressions.md").read_text(encoding="utf-8")
    block = re.search(r"```json\n(.*?)```", page, re.DOTALL)
    assert block is not None
    event: Json = json.loads(block[1])
    section = page[block.end() : page.index("## Variables")]
    rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \|$", section, re.MULTILINE)
    assert len(rows) > 15
    for expression, value in rows:
        found = compile(expression.replace("\\|", "|")).evaluate({"event": event}, now=1_780_000_000_000)
        assert found == json.loads(value), expression

"""The documentation as tools: agents that write functions look up how, in the version that runs.

The pages are in the wheel beside the package, and in a checkout in docs/. A server without them offers no such tools.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from perdure.model.json import Json
from perdure.server.catalogue import schemas as s
from perdure.server.mcp.offering import Answer, Caller, Tool, ToolError

TOOLSET = "docs"
_READ = {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False}
_PAGE = s.record({"path": s.TEXT, "title": s.TEXT})
_HIT = s.record({"path": s.TEXT, "line": s.NUMBER, "text": s.TEXT})


@cache
def pages() -> dict[str, str]:
    """The pages by name; empty where there are none."""
    package = Path(__file__).parents[2]
    for folder in (package / "_docs", package.parents[1] / "docs"):
        if (folder / "getting-started.md").is_file():
            return {each.name: each.read_text(encoding="utf-8") for each in sorted(folder.glob("*.md"))}
    return {}


def tools() -> list[Tool]:
    """The tools; none where there are no pages."""
    return [_list(), _read(), _grep()] if pages() else []


def _list() -> Tool:
    async def call(given: dict[str, Json], caller: Caller) -> Answer:
        return Answer({"pages": [{"path": path, "title": _title(text)} for path, text in pages().items()]})

    return Tool(
        name="list_docs",
        title="List the documentation",
        description="Lists the pages of perdure's documentation, of the version that runs.",
        input_schema=s.closed({}),
        output_schema=s.record({"pages": s.array(_PAGE)}),
        hints=_READ,
        toolset=TOOLSET,
        call=call,
    )


def _title(text: str) -> str:
    return text.partition("\n")[0].lstrip("# ")


def _read() -> Tool:
    async def call(given: dict[str, Json], caller: Caller) -> Answer:
        path: str = given["path"]
        text = pages().get(path) or pages().get(f"{path}.md")
        if text is None:
            raise ToolError(f"There is no page {path!r}; list_docs shows them.")
        return Answer({"path": path, "title": _title(text), "text": text}, text)

    return Tool(
        name="read_doc",
        title="Read a page of the documentation",
        description="Shows a page of perdure's documentation as Markdown.",
        input_schema=s.closed({"path": {**s.NAME, "description": "The name of the page, such as steps.md."}}),
        output_schema=s.record({"path": s.TEXT, "title": s.TEXT, "text": s.TEXT}),
        hints=_READ,
        toolset=TOOLSET,
        call=call,
    )


def _grep() -> Tool:
    async def call(given: dict[str, Json], caller: Caller) -> Answer:
        limit = given.get("limit", 10)
        wanted = given["pattern"].lower()
        hits = [
            {"path": path, "line": number, "text": line.strip()}
            for path, text in pages().items()
            for number, line in enumerate(text.splitlines(), 1)
            if all(word in line.lower() for word in re.split(r"\s+", wanted.strip()))
        ]
        return Answer({"hits": hits[:limit], "total": len(hits)})

    return Tool(
        name="grep_docs",
        title="Search the documentation",
        description="Finds lines of perdure's documentation that have all of the words, whatever their case.",
        input_schema=s.closed(
            {"pattern": {**s.NAME, "description": "The words to look for."}},
            {"limit": {"type": "integer", "minimum": 1, "maximum": 100, "description": "At most so many lines; 10."}},
        ),
        output_schema=s.record({"hits": s.array(_HIT), "total": s.NUMBER}),
        hints=_READ,
        toolset=TOOLSET,
        call=call,
    )

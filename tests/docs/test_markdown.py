"""Every example of the documents runs: the Python blocks of a file from top to bottom, in one module of its own.

Blocks may await at their top level. A block that awaits nothing runs outside of any event loop, as a script would,
so `asyncio.run(...)` works in it, and what a script does only as `__main__` is done. Each file runs in an empty folder.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import shlex
import sys
import types
from pathlib import Path

import click
import pytest

from perdure.cli import main

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = [file for file in FILES if file.name != "ARCHITECTURE.md"]
_BLOCK = re.compile(r"^```python[ \t]*\n(.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)


def blocks(file: Path) -> list[tuple[int, str]]:
    """The Python blocks of a document, with the number of their first line."""
    text = file.read_text(encoding="utf-8")
    return [(text.count("\n", 0, match.start(1)) + 1, match[1]) for match in _BLOCK.finditer(text)]


@pytest.mark.parametrize("file", [file for file in RUN if blocks(file)], ids=lambda file: file.name)
def test_the_python_blocks_run(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # A module that can be imported by name, for annotations are resolved through it.
    module = types.ModuleType(f"document_{file.stem}".replace("-", "_"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with asyncio.Runner() as runner:
        for line, source in blocks(file):
            # Empty lines before it, so that a traceback shows the line of the document.
            padded = "\n" * (line - 1) + source.replace('if __name__ == "__main__":', "if True:")
            code = compile(padded, str(file), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            run = types.FunctionType(code, module.__dict__)
            if code.co_flags & inspect.CO_COROUTINE:
                runner.run(run())
            else:
                run()


def command_lines(file: Path) -> list[str]:
    """The `perdure ...` lines of a document's shell blocks."""
    text = file.read_text(encoding="utf-8")
    shells = re.findall(r"^```(?:bash|sh|console)[ \t]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line.split(" #")[0] for shell in shells for line in shell.splitlines() if line.startswith("perdure ")]


@pytest.mark.parametrize(("file", "line"), [(file.name, line) for file in FILES for line in command_lines(file)])
def test_a_command_line_is_one_that_perdure_takes(
    file: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.db").touch()
    name, *arguments = shlex.split(line)[1:]
    command = main.get_command(click.Context(main), name)
    assert command is not None, f"{file}: there is no command {name!r}"
    command.make_context(name, arguments)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_command_that_is_mentioned_exists(file: Path) -> None:
    mentioned = set(re.findall(r"`perdure ([a-z]+)\b", file.read_text(encoding="utf-8")))
    assert mentioned <= set(main.list_commands(click.Context(main)))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_link_leads_somewhere(file: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", file.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (file.parent / path) if path else file
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def anchors(file: Path) -> set[str]:
    """The anchors of a document's headings, as they are made on the web."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

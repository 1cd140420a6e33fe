"""ARCHITECTURE.md is true: its import contracts are those that are checked, and the files that it names exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def test_the_quoted_import_contracts_are_those_of_pyproject() -> None:
    quoted = re.search(r"^```toml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    assert quoted is not None
    checked = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert tomllib.loads(quoted[1])["tool"]["importlinter"]["contracts"] == checked


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([a-z_/]+/[a-z_]*\.?(?:py|sql)?)`", TEXT))))
def test_a_path_that_it_names_exists(path: str) -> None:
    assert any((base / path).exists() for base in (ROOT, ROOT / "src/perdure"))


def defined(module: Path) -> set[str]:
    return set(re.findall(r"^ *(?:async )?def (\w+)", module.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize(("module", "function"), sorted(set(re.findall(r"`(\w+)\.(\w+)`", TEXT))))
def test_a_function_that_it_names_exists(module: str, function: str) -> None:
    files = list((ROOT / "src/perdure").rglob(f"{module}.py"))
    if function not in ("py", "sql") and files:
        assert any(function in defined(file) for file in files)

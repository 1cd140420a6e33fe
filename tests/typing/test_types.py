"""The types work for users: right code passes mypy and pyright, and each wrong line fails in both."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RIGHT, WRONG = "right_code.py", "wrong_code.py"
_MARK = re.compile(r"# E: (?P<mypy>[\w-]+), (?P<pyright>\w+)$")
_MYPY = re.compile(r"^(?P<file>.+?):(?P<line>\d+): error: .*\[(?P<code>[\w-]+)\]$", re.MULTILINE)

Errors = dict[str, dict[int, set[str]]]
"""The kinds of error by file and line."""


def _marked(checker: str) -> dict[int, str]:
    lines = enumerate((Path(__file__).parent / WRONG).read_text().splitlines(), start=1)
    return {number: mark[checker] for number, line in lines if (mark := _MARK.search(line))}


def _run(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, f"found nothing wrong, or did not run: {done.stdout}{done.stderr}"
    return done.stdout


def _mypy(folder: Path) -> Errors:
    errors: Errors = defaultdict(lambda: defaultdict(set))
    for error in _MYPY.finditer(_run("mypy", "--no-pretty", str(folder / RIGHT), str(folder / WRONG))):
        errors[Path(error["file"]).name][int(error["line"])].add(error["code"])
    return errors


def _pyright(folder: Path) -> Errors:
    # A configuration of its own, for the project's leaves the wrong code out.
    config = {"typeCheckingMode": "strict", "pythonVersion": "3.11", "extraPaths": [str(ROOT / "src")]}
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    output = _run("pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(folder))
    errors: Errors = defaultdict(lambda: defaultdict(set))
    for error in json.loads(output)["generalDiagnostics"]:
        errors[Path(error["file"]).name][error["range"]["start"]["line"] + 1].add(error["rule"])
    return errors


@pytest.mark.slow
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_right_code_passes_and_each_wrong_line_fails(checker: str, tmp_path: Path) -> None:
    for name in (RIGHT, WRONG):
        shutil.copy(Path(__file__).parent / name, tmp_path)
    errors = {"mypy": _mypy, "pyright": _pyright}[checker](tmp_path)
    assert errors.pop(RIGHT, {}) == {}
    wrong, marked = errors.pop(WRONG), _marked(checker)
    assert errors == {}
    assert wrong.keys() == marked.keys()
    assert [(n, kind, wrong[n]) for n, kind in marked.items() if kind not in wrong[n]] == []

"""The tests on docs/testing.md pass, as they stand, in a project of their own that only has perdure installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.test_markdown import ROOT, blocks

PAGE = ROOT / "docs" / "testing.md"

# Another plugin that runs async tests: what the fixtures promise is not anyio's doing.
PLAIN_RUNNER = """
import asyncio, inspect, pytest

@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        names = pyfuncitem._fixtureinfo.argnames
        asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
        return True
"""


def run_pytest(folder: Path, options: str) -> str:
    """Runs a project's tests in a process of its own; what it says. All of them must pass."""
    (folder / "pytest.ini").write_text(f"[pytest]\nfilterwarnings = error\n{options}\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("runner", ["anyio", "another"])
def test_the_tests_of_the_page_pass(tmp_path: Path, runner: str) -> None:
    source = "\n\n".join(block for _, block in blocks(PAGE))
    (tmp_path / "test_page.py").write_text(source)
    if runner == "another":
        (tmp_path / "conftest.py").write_text(PLAIN_RUNNER)
    output = run_pytest(tmp_path, "anyio_mode = auto" if runner == "anyio" else "")
    assert f"{source.count('async def test_')} passed" in output


def test_an_engine_for_a_plain_test_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text("def test_it(perdure_engine):\n    pass\n")
    with pytest.raises(AssertionError, match="make it `async def test_it"):
        run_pytest(tmp_path, "")

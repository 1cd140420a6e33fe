"""`perdure demo` as its user runs it: a real server over HTTP, killed with SIGKILL, judged by what was recorded."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ORDERS = Path(__file__).parents[2] / "examples" / "orders.jsonl"


@pytest.mark.slow
@pytest.mark.chaos
def test_the_demo_kills_its_server_and_every_claim_holds(tmp_path: Path) -> None:
    orders = tmp_path / "orders.jsonl"
    orders.write_text("".join(ORDERS.read_text(encoding="utf-8").splitlines(keepends=True)[:60]), encoding="utf-8")
    command = [sys.executable, "-m", "perdure", "demo", "--orders", str(orders), "--kills", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "58 orders, 116 runs COMPLETED" in done.stdout
    assert re.findall(r"^  line +(\d+)  400  (.+)$", done.stdout, re.MULTILINE) == [
        ("17", "event name is empty"),
        ("54", "event ts must be a whole number of milliseconds, got a string"),
    ]
    assert "FAILS" not in done.stdout

"""`perdure demo` as its user runs it: real servers over HTTP, killed with SIGKILL, judged by what was recorded."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.sdk_apps import environment

ORDERS = Path(__file__).parents[2] / "examples" / "orders.jsonl"

pytestmark = [pytest.mark.slow, pytest.mark.chaos]


def demo(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The demo, run in an empty folder."""
    command = [sys.executable, "-m", "perdure", "demo", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=110, cwd=folder, env=environment(more), check=False
    )


def test_the_demo_kills_its_server_and_every_claim_holds(tmp_path: Path) -> None:
    orders = tmp_path / "orders.jsonl"
    orders.write_text("".join(ORDERS.read_text(encoding="utf-8").splitlines(keepends=True)[:60]), encoding="utf-8")
    done = demo(tmp_path, "orders", "--orders", str(orders), "--kills", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "58 orders, 116 runs COMPLETED" in done.stdout
    assert re.findall(r"^  line +(\d+)  400  (.+)$", done.stdout, re.MULTILINE) == [
        ("17", "event name is empty"),
        ("54", "event ts must be a whole number of milliseconds, got a string"),
    ]
    assert "FAILS" not in done.stdout and "perdure demo endpoint" not in done.stdout


def heard(output: str, caller: str) -> list[str]:
    """What a caller's transcript says, line by line."""
    return re.findall(rf"^ *[\d.]+ s  {caller} +(.+)$", output, re.MULTILINE)


def test_every_caller_of_the_endpoint_gets_its_answer_from_the_next_process(tmp_path: Path) -> None:
    done = demo(tmp_path, "endpoint")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "" and "FAILS" not in done.stdout
    before, _, after = done.stdout.partition("SIGKILL: ")
    callers = ["python", "npm"] if os.environ.get("CI") or "without npm" not in done.stdout else ["python"]
    for name in callers:
        _, taken_back, kept = heard(before, name)
        assert taken_back == f"“Dear {name}, we regret to say that your parcel”  taken back"
        assert kept.startswith(f"“Dear {name}, your parcel of tea left") and kept.endswith("kept")
    if shutil.which("curl"):
        callers.append("curl")
        assert heard(before, "curl")[1].startswith("302, led to http://127.0.0.1:")
    for name in callers:
        (answer,) = heard(after, name)
        assert answer.startswith(f'200 {{"letter":"Dear {name}, your parcel of tea left')


def test_the_endpoint_is_shown_without_the_package_that_npm_cannot_get(tmp_path: Path) -> None:
    nobody = {"npm_config_registry": "http://127.0.0.1:9", "npm_config_cache": str(tmp_path / "cache")}
    done = demo(tmp_path, "endpoint", **nobody)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "without npm's client: npm cannot get inngest@" in done.stdout
    assert heard(done.stdout, "npm") == [] and len(heard(done.stdout, "python")) == 4


def test_an_agent_that_is_killed_in_mid_sentence_says_and_does_everything_once(tmp_path: Path) -> None:
    done = demo(tmp_path, "agent")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "" and "FAILS" not in done.stdout
    before, _, after = done.stdout.partition("SIGKILL: ")
    assert "find_order({" in before and "find_order({" not in after.partition("Evidence")[0]
    assert "observed from offset " in after and "taken back" in after and "approved" in after
    assert done.stdout.count("  holds  ") == 5

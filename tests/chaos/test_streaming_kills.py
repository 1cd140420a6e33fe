"""SIGKILL in mid stream: who comes back with the last offset has, in the end, everything that counts, once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from perdure.model.json import Json
from perdure.model.streams import StreamEvent
from tests.chaos.killing import ROOT
from tests.chaos.streaming_worker import CHUNKS, STEPS
from tests.property.test_streams import Listener

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are killed by signals"),
]


def live(db: Path, listener: Listener, events: int | None) -> list[str]:
    """One process's life: it is killed once this many events were heard of it. The kinds of the events."""
    command = [sys.executable, "-m", "tests.chaos.streaming_worker", str(db), str(listener.offset)]
    kinds: list[str] = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            offset, kind, step_id, data = json.loads(line)
            body = b"" if data is None else json.dumps(data).encode()
            listener.hear(StreamEvent(offset, kind, step_id, body))
            kinds.append(kind)
            if events is not None and len(kinds) >= events:
                process.kill()
                break
        # What it had said before it died is on its way all the same: that is lost, as on a broken connection.
    return kinds


@pytest.mark.parametrize("seed", range(3))
def test_killed_in_mid_stream(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    listener = Listener()
    rollbacks, lives = 0, 0
    while listener.response is None:
        lives += 1
        assert lives < 60
        rollbacks += live(tmp_path / "db", listener, chance.randint(1, 40) if lives < 8 else None).count("rollback")
    wanted: list[Json] = [[number, chunk] for number in range(STEPS) for chunk in range(CHUNKS)]
    assert sorted(listener.counting) == wanted
    assert not any(listener.pending.values())
    assert listener.response["status"] == "succeeded"
    assert lives > 3 and rollbacks > 0
    # Who comes late hears what counts, and nothing that was taken back.
    late = Listener()
    assert "rollback" not in live(tmp_path / "db", late, None)
    assert sorted(late.counting) == wanted

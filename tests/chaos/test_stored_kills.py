"""A server with stored agents is killed while runs wait and while they work; meanwhile their agents are edited.

A run goes on as it began: with the instructions and tools of its version, whatever has become of the agent since.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Final

import httpx2
import pytest

from perdure.model.json import Json
from tests.support.agents_http import frames_of, kinds
from tests.support.dev_server import DevServer
from tests.support.stored_agents import FIRST

ROOT: Final = Path(__file__).parents[2]
APP: Final = "from tests.support.stored_agents import stored_app\n\napp = stored_app()\n"
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]


class Life:
    """One life of the server."""

    def __init__(self, folder: Path) -> None:
        (folder / "desk.py").write_text(APP)
        options = ("--db", str(folder / "desk.db"), "--no-discovery", "--no-reload")
        self._server = DevServer(folder, "desk.py:app", *options, environment={"PYTHONPATH": str(ROOT)})

    def __enter__(self) -> Life:
        self._server.__enter__()
        self.http = httpx2.Client(base_url=self._server.url, timeout=60)
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self._server.__exit__(None, None, None)

    def kill(self) -> None:
        """Ends the process without a warning."""
        self._server.stop(signal.SIGKILL)

    def ask(self, method: str, path: str, body: Json = None) -> Json:
        """Asks below `/api`; the answer."""
        response = self.http.request(method, f"/api/{path}", json=body)
        assert response.status_code == 200, response.text
        return response.json()


def test_a_run_keeps_its_version_over_kills_and_edits(tmp_path: Path) -> None:
    tools: Json = {"deleteThing": {}, "weather": {}}
    with Life(tmp_path) as life:
        life.ask("POST", "stored/agents", {**FIRST, "tools": tools})
        asked = life.ask(
            "POST", "agents/my-stored/generate", {"messages": '!tool deleteThing {"thing":"a"}', "runId": "r1"}
        )
        assert asked["finishReason"] == "suspended"
        working = {"messages": '!slowtool 1500 weather {"city":"Oslo"}', "runId": "r2"}
        with life.http.stream("POST", "/api/agents/my-stored/stream", json=working) as stream:
            assert b"step-start" in next(chunk for chunk in stream.iter_bytes() if b"step-start" in chunk)
            life.ask("PATCH", "stored/agents/my-stored", {"tools": {}, "instructions": "Other.", "autoPublish": True})
            life.kill()
    with Life(tmp_path) as life:
        shown = life.ask("GET", "agents/my-stored")
        assert (shown["instructions"], shown["tools"]) == ("Other.", {})
        response = life.http.post("/api/agents/my-stored/observe", json={"runId": "r2"})
        observed = [each["data"] for each in frames_of(response.text)]
        assert "tool-result" in kinds(observed) and "tool-error" not in kinds(observed)
        life.ask("DELETE", "stored/agents/my-stored")
        life.kill()
    with Life(tmp_path) as life:
        # Its agent is gone; one of the same id takes its questions over.
        life.ask("POST", "stored/agents", {**FIRST, "instructions": "New."})
        answer = {"runId": "r1", "toolCallId": "call_1"}
        result = life.ask("POST", "agents/my-stored/approve-tool-call-generate", answer)
        assert '"deleted":"a"' in result["text"]

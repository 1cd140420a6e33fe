"""What a caller hears: printed while it comes, and kept for the judge.

Invariant: `kept` is what a page would show at the end: what was said, without what was taken back.
"""

from __future__ import annotations

import click

from perdure.cli.demo.show import Show


class Transcript:
    """One caller's. `status` and `body` are the final answer, None until it is there; `error` why none came."""

    def __init__(self, caller: str, show: Show) -> None:
        self.caller = caller
        self.run_id = ""
        self.kept = ""
        self.taken_back: list[str] = []
        self.status: int | None = None
        self.body = ""
        self.error = ""
        self._saying = ""
        self._show = show

    def metadata(self, run_id: str) -> None:
        if run_id != self.run_id:
            self.run_id = run_id
            self.note(f"run {run_id}")

    def data(self, chunk: object) -> None:
        self._saying += str(chunk)

    def rollback(self) -> None:
        if self._saying:
            self.taken_back.append(self._saying)
            self.note(click.style(f"“{self._saying.strip()}”", strikethrough=True, dim=True) + "  taken back")
        self._saying = ""

    def commit(self) -> None:
        if self._saying:
            self.kept += self._saying
            self.note(f"“{self._saying.strip()}”  kept")
        self._saying = ""

    def answered(self, status: int, body: str) -> None:
        self.status, self.body = status, body
        self.note(f"{status} {body}")

    def failed(self, error: str) -> None:
        self.error = error
        self.note(f"no answer: {error}")

    def note(self, text: str) -> None:
        """Says something under the caller's name."""
        self._show.say(f"{self.caller:<6}  {text}")

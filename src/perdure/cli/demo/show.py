"""What is said while the demo runs: lines with the seconds since the start; on a terminal progress rewrites its own."""

from __future__ import annotations

import sys
import time

import click

_EVERY_ON_TERMINAL = 0.1
_EVERY_IN_LOG = 2.0


class Show:
    """Says things."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._terminal = sys.stdout.isatty()
        self._every = _EVERY_ON_TERMINAL if self._terminal else _EVERY_IN_LOG
        self._open = False
        self._last_at = 0.0

    def _line(self, text: str) -> str:
        return f"{time.monotonic() - self._began:5.1f} s  {text}"

    def say(self, text: str) -> None:
        self._close()
        click.echo(self._line(text))

    def progress(self, text: str) -> None:
        """Says how far it is, not more often than anyone can read."""
        now = time.monotonic()
        if now - self._last_at < self._every:
            return
        self._last_at = now
        if self._terminal:
            click.echo(f"\r\x1b[K{self._line(text)}", nl=False)
            self._open = True
        else:
            click.echo(self._line(text))

    def _close(self) -> None:
        if self._open:
            click.echo()
            self._open = False

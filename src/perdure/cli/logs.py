"""What a server writes: lines for people, or one JSON object a line for programs that collect logs.

As text, what the command itself says goes to standard output and the log to standard error, as the user's modules
set it up if they did. As JSON all goes to standard error, in one form.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Literal

import click

from perdure.model.json import Json, encode

LogFormat = Literal["text", "json"]


class JsonLines(logging.Formatter):
    """A log record as one JSON object: `time` (UTC), `level`, `logger`, `message`, and `error` with a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        error = self.formatException(record.exc_info) if record.exc_info else None
        return _line(record.created, record.levelname, record.name, record.getMessage(), error)


def configure(log_format: LogFormat) -> None:
    """Sets up logging for a server."""
    if log_format == "json":
        handler = logging.StreamHandler()
        handler.setFormatter(JsonLines())
        # What the user's modules set up would write lines that are not JSON among ours.
        logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    else:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("watchfiles", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)


def tell(log_format: LogFormat, text: str) -> None:
    """Says something to whoever started the server."""
    if log_format == "json":
        click.echo(_line(datetime.now(UTC).timestamp(), "INFO", "perdure.server", text, None), err=True)
    else:
        click.echo(text)


def _line(at: float, level: str, logger: str, message: str, error: str | None) -> str:
    time = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body: dict[str, Json] = {"time": time, "level": level.lower(), "logger": logger, "message": message}
    if error is not None:
        body["error"] = error
    try:
        return encode(body).decode()
    except ValueError:
        # A lone surrogate, from a file name say, has no place in JSON.
        return encode({key: text.encode("utf-8", "replace").decode() for key, text in body.items()}).decode()

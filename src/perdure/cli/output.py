"""How commands print: plain aligned text, times and durations for people, colour only on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import click

from perdure.model.json import Json, encode

_COLOURS = {
    "COMPLETED": "green",
    "FAILED": "red",
    "CANCELLED": "yellow",
    "RUNNING": "cyan",
    "WAITING": "cyan",
}


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints rows in aligned columns; a cell that is a status is coloured. Control characters are shown, not obeyed."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    click.echo("  ".join(name.ljust(width) for name, width in zip(header, widths, strict=True)).rstrip())
    for row in rows:
        cells = [_coloured(cell, cell.ljust(width)) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def printable(text: str) -> str:
    """Text that others chose (names of events and steps), with what would move a terminal's cursor escaped.

    >>> printable("Zoë\\x1b[2J\\n")
    'Zoë\\\\x1b[2J\\\\n'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _coloured(cell: str, padded: str) -> str:
    colour = _COLOURS.get(cell)
    return click.style(padded, fg=colour) if colour else padded


def status_text(status: str) -> str:
    return _coloured(status, status)


def print_json(value: Json) -> None:
    """Prints JSON for other programs to read."""
    click.echo(encode(value).decode())


def millis(text: str | None) -> int | None:
    """The ms of a time as the server writes it."""
    if text is None:
        return None
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def local_time(text: str | None) -> str:
    """A time of the server, in the time zone of the reader, to the second."""
    if text is None:
        return "-"
    return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S}"


def duration(value: int | None) -> str:
    """A duration in ms for people.

    >>> duration(7), duration(1234), duration(90_000), duration(26 * 3_600_000), duration(None)
    ('7 ms', '1.23 s', '1m 30s', '1d 2h', '-')
    """
    if value is None:
        return "-"
    if value < 1000:
        return f"{value} ms"
    if value < 60_000:
        return f"{value / 1000:.2f} s"
    seconds = value // 1000
    for name, size, smaller, unit in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if seconds >= size:
            rest = seconds % size // unit
            return f"{seconds // size}{name} {rest}{smaller}" if rest else f"{seconds // size}{name}"
    return f"{seconds} s"


def size(count: int) -> str:
    """A number of bytes for people.

    >>> size(512), size(2_500_000)
    ('512 B', '2.4 MiB')
    """
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def short(value: Json, width: int = 60) -> str:
    """JSON on one line, cut where it gets long."""
    text = encode(value).decode("utf-8", "replace")
    return text if len(text) <= width else text[: width - 3] + "..."


def now() -> int:
    """The present in ms, for durations of what has not ended."""
    return int(datetime.now(UTC).timestamp() * 1000)

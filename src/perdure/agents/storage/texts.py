"""Texts as every store can keep them: what one database would refuse, or cannot find again, is refused at the door."""

from __future__ import annotations

from typing import Final

from perdure.agents.errors import InvalidOptionError
from perdure.model.json import Json, encode

MOST: Final = 512
"""Characters of an id: more would not fit into an index."""


def check_id(name: str, value: str | None) -> None:
    """Raises `InvalidOptionError` for an id that cannot be kept. None is no id.

    >>> check_id("thread_id", "trip-1")
    """
    if value is not None:
        if len(value) > MOST:
            raise InvalidOptionError(f"{name}: must have at most {MOST} characters, got {len(value)}")
        check_text(name, value)


def check_text(name: str, value: str | None) -> None:
    """Raises `InvalidOptionError` for a text with NUL characters or halves of characters."""
    if value is None:
        return
    if "\0" in value:
        raise InvalidOptionError(f"{name}: must not hold NUL characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidOptionError(f"{name}: holds half a surrogate pair, which UTF-8 cannot carry") from None


def metadata_text(metadata: dict[str, Json] | None) -> str | None:
    """Metadata as the JSON text that is kept. Raises `InvalidOptionError`."""
    if metadata is None:
        return None
    try:
        text = encode(metadata).decode()
    except UnicodeEncodeError:
        raise InvalidOptionError("metadata: holds half a surrogate pair, which UTF-8 cannot carry") from None
    if "\\u0000" in text:
        raise InvalidOptionError("metadata: must not hold NUL characters")
    return text

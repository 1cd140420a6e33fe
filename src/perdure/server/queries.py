"""Query parameters and path ids, checked: what both REST APIs have in common."""

from __future__ import annotations

from starlette.requests import Request

from perdure.model.durations import InstantError, parse_instant
from perdure.server.envelope import ApiError


def instant(request: Request, name: str) -> int | None:
    """A time parameter (RFC 3339) in ms. Raises `ApiError`."""
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        return parse_instant(text)
    except InstantError as error:
        raise ApiError(400, f"Invalid {name} query parameter: {error}") from error


def flag(request: Request, name: str) -> bool:
    """A yes-or-no parameter. Raises `ApiError`."""
    text = request.query_params.get(name, "").lower()
    if text in ("", "false", "0"):
        return False
    if text in ("true", "1"):
        return True
    raise ApiError(400, f"{name} must be true or false", "invalid_field_format")


def number(text: str | None) -> int | None:
    """A whole number, None for anything else."""
    text = (text or "").strip()
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 10 else None

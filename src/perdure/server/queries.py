"""Query parameters and path ids, checked: what the REST APIs have in common."""

from __future__ import annotations

from starlette.requests import Request

from perdure.model.durations import InstantError, parse_instant
from perdure.model.ids import is_ulid
from perdure.server.envelope import ApiError

_DEFAULT_LIMIT = 20


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


def optional_flag(request: Request, name: str) -> bool | None:
    """A yes-or-no parameter, None where it is not given. Raises `ApiError`."""
    return flag(request, name) if request.query_params.get(name) else None


def number(text: str | None) -> int | None:
    """A whole number, None for anything else."""
    text = (text or "").strip()
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 10 else None


def page_limit(request: Request, most: int = 100) -> int:
    """The `limit` of a page in v2: 20 where none is given, or 0. Raises `ApiError`."""
    text = request.query_params.get("limit")
    limit = number(text) if text else 0
    if limit is None:
        raise ApiError(400, "Limit must be a whole number", "invalid_field_format")
    if limit > most:
        raise ApiError(400, f"Limit cannot exceed {most}", "invalid_field_format")
    return limit or _DEFAULT_LIMIT


def ulid(request: Request, what: str) -> str:
    """The id in the path of a v2 request, which names a run or an event. Raises `ApiError`."""
    value: str = request.path_params[f"{what.lower()}_id"]
    if not is_ulid(value):
        raise ApiError(400, f"{what} ID must be a valid ULID", "invalid_field_format")
    return value

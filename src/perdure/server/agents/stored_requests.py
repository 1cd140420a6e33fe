"""What requests about stored agents say, checked: configurations, orders, pages and messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, cast

from starlette.requests import Request

from perdure.agents.durable.naming import STORED, SUB_AGENTS, TASKS
from perdure.agents.stored.config import FIELDS, MAX_MESSAGE, Fault, faults, is_id, kind_of
from perdure.engine.agents.stored.records import STATUSES, StoredStatus
from perdure.model.json import InvalidJsonError, Json, decode
from perdure.server.agents.errors import InvalidRequest

_CLEARED = ("memory", "browser")
"""Fields that an edit may set to null, and so takes away."""


def invalid(found: Iterable[Fault]) -> InvalidRequest:
    """The error that tells of faults; there must be one."""
    issues = [{"field": fault.field, "message": fault.message} for fault in found]
    error = InvalidRequest(issues[0]["field"], issues[0]["message"])
    error.issues = issues
    return error


def config_of(body: dict[str, Json], *, whole: bool) -> dict[str, Json]:
    """The configuration in a body; a `whole` one has a name and instructions. Raises `InvalidRequest`."""
    found = list(faults(body, nullable=() if whole else _CLEARED))
    if whole:
        found += [Fault(name, _missing("string")) for name in ("name", "instructions") if name not in body]
    found += _record_faults(body)
    if found:
        raise invalid(found)
    config = {field: body[field] for field in FIELDS if field in body}
    if config.get("browser") is False:
        config["browser"] = None
    return {field: value for field, value in config.items() if value is not None} if whole else config


def _record_faults(body: dict[str, Json]) -> Iterable[Fault]:
    """What is wrong with fields that have no versions."""
    kinds: dict[str, tuple[type, str]] = {
        "authorId": (str, "string"),
        "metadata": (dict, "record"),
        "autoPublish": (bool, "boolean"),
        "changeMessage": (str, "string"),
    }
    for name, (kind, told) in kinds.items():
        if name in body and not isinstance(body[name], kind):
            yield Fault(name, f"Invalid input: expected {told}, received {kind_of(body[name])}")
    if body.get("visibility", "public") not in ("public", "private"):
        yield Fault("visibility", 'Invalid option: expected one of "private"|"public"')
    if body.get("status", "draft") not in STATUSES:
        yield Fault("status", f"Invalid option: expected one of {'|'.join(STATUSES)}")
    if isinstance(body.get("changeMessage"), str) and len(body["changeMessage"]) > MAX_MESSAGE:
        yield Fault("changeMessage", f"Too big: expected string to have <={MAX_MESSAGE} characters")


def message_of(body: dict[str, Json]) -> str | None:
    """The message of a change. Raises `InvalidRequest`."""
    message: str | None = body.get("changeMessage")
    found = [] if message is None else list(_record_faults({"changeMessage": message}))
    if found:
        raise invalid(found)
    return message


def agent_id(body: dict[str, Json], name: str, otherwise: str) -> str:
    """The id that a body gives under a name. Raises `InvalidRequest`."""
    given = body.get(name)
    if given is not None and not isinstance(given, str):
        raise InvalidRequest(name, f"Invalid input: expected string, received {kind_of(given)}")
    id = given or otherwise
    if not is_id(id) or id in (STORED, SUB_AGENTS, TASKS):
        raise InvalidRequest(name, "must be 1 to 120 letters and digits, in words joined by - _ or ., and not reserved")
    return id


def text_of(body: dict[str, Json], name: str) -> str | None:
    """A text that need not be there. Raises `InvalidRequest`."""
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(name, f"Invalid input: expected string, received {kind_of(value)}")
    return value


def record_of(body: dict[str, Json], name: str) -> dict[str, Json] | None:
    """An object that need not be there. Raises `InvalidRequest`."""
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise InvalidRequest(name, f"Invalid input: expected record, received {kind_of(value)}")
    return value


def status_of(request: Request) -> StoredStatus | None:
    """The status that a query names. Raises `InvalidRequest`."""
    return cast("StoredStatus | None", _one_of(request, "status", STATUSES))


def order_of(request: Request, fields: tuple[str, ...]) -> tuple[str, bool]:
    """The order that a query asks for: the field, the first one by default, and whether it goes down."""
    field = _one_of(request, "orderBy[field]", fields) or fields[0]
    direction = _one_of(request, "orderBy[direction]", ("ASC", "DESC"))
    return field, direction != "ASC"


def visibility_of(request: Request) -> Literal["public"] | None:
    """Whether a query asks for public agents alone."""
    return "public" if _one_of(request, "visibility", ("public",)) else None


def metadata_of(request: Request) -> dict[str, Json] | None:
    """The metadata that a query asks for. Raises `InvalidRequest`."""
    shown = request.query_params.get("metadata")
    if not shown:
        return None
    try:
        found: Json = decode(shown)
    except InvalidJsonError as error:
        raise InvalidRequest("metadata", str(error), "query parameters") from error
    if not isinstance(found, dict):
        raise InvalidRequest("metadata", "must be an object", "query parameters")
    return found


def _one_of(request: Request, name: str, known: tuple[str, ...]) -> str | None:
    shown = request.query_params.get(name) or None
    if shown is not None and shown not in known:
        field = name.replace("[", ".").replace("]", "")
        raise InvalidRequest(field, f"Invalid option: expected one of {'|'.join(known)}", "query parameters")
    return shown


def _missing(kind: str) -> str:
    return f"Invalid input: expected {kind}, received undefined"

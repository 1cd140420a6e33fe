"""Events sent as HTML forms, as webhooks of older services do: urlencoded or multipart.

`name`, `id`, `v` and `ts` become the fields of the event; every other field goes into `data` as the list of its
values, since a form may repeat a field.
"""

from __future__ import annotations

from email.parser import BytesParser
from email.policy import HTTP
from urllib.parse import parse_qsl

from perdure.model.json import Json
from perdure.server.envelope import ApiError

_URLENCODED = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"
_MAX_FIELDS = 1000


def is_form(content_type: str) -> bool:
    """Whether the content type is one of the two that forms have."""
    return content_type.split(";")[0].strip().lower() in (_URLENCODED, _MULTIPART)


def form_event(body: bytes, content_type: str) -> dict[str, Json]:
    """The event that a form describes. Raises `ApiError`.

    >>> form_event(b"name=shop%2Fpaid&order=7&tag=a&tag=b", "application/x-www-form-urlencoded")
    {'name': 'shop/paid', 'data': {'order': ['7'], 'tag': ['a', 'b']}}
    """
    fields: dict[str, list[str]] = {}
    try:
        if content_type.lower().startswith(_MULTIPART):
            pairs = _multipart(body, content_type)
        else:
            pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
    except (ValueError, LookupError) as error:
        raise ApiError(400, f"request body is not a valid form: {error}") from error
    for key, value in pairs:
        fields.setdefault(key, []).append(value)
    event: dict[str, Json] = {"name": fields.pop("name", [""])[0]}
    for key in ("id", "v"):
        if key in fields:
            event[key] = fields.pop(key)[0]
    if "ts" in fields:
        event["ts"] = _timestamp(fields.pop("ts")[0])
    event["data"] = fields
    return event


def _timestamp(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise ApiError(400, "event ts must be a whole number of milliseconds")
    return int(text)


def _multipart(body: bytes, content_type: str) -> list[tuple[str, str]]:
    message = BytesParser(policy=HTTP).parsebytes(
        b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n" + body
    )
    if not message.is_multipart():
        raise ValueError("the parts cannot be told apart; is the boundary of the content type right?")
    pairs: list[tuple[str, str]] = []
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        if not isinstance(name, str) or not isinstance(payload, bytes):
            raise ValueError("a part has no name")
        pairs.append((name, payload.decode()))
        if len(pairs) > _MAX_FIELDS:
            raise ValueError(f"it has more than {_MAX_FIELDS} fields")
    return pairs

"""Sessions: the ids by which an event, and the runs that it starts, are grouped (`meta.sessions`, part A.3).

An SDK sends two layers: what the event says of itself, where null takes a key (or all of them) away, and what it
inherits from the run that sends it (`propagated_sessions`). Whoever sees an event sees one map of texts.
Invariants: what the event says wins; what it inherits fills the places that are left, in the order of the keys' bytes,
so that every server and SDK keeps the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from perdure.model.json import Json, encode

_MAX_SESSIONS: Final = 5
_MAX_KEY: Final = 128
_MAX_ID: Final = 512
_OWN: Final = "sessions"
_INHERITED: Final = "propagated_sessions"


class SessionsError(ValueError):
    """The sessions of an event are malformed."""


def resolve_sessions(meta: Mapping[str, Json] | None) -> dict[str, Json] | None:
    """The meta of an event with its sessions in one layer; None where nothing is left. Raises `SessionsError`.

    >>> resolve_sessions({"sessions": {"chat": None}, "propagated_sessions": {"chat": "c1", "user": 7}})
    {'sessions': {'user': '7'}}
    """
    if not meta:
        return None
    resolved = {key: value for key, value in meta.items() if key not in (_OWN, _INHERITED)}
    sessions = _merged(meta)
    if sessions:
        resolved[_OWN] = sessions
    return resolved or None


def _merged(meta: Mapping[str, Json]) -> dict[str, str]:
    if _OWN in meta and meta[_OWN] is None:
        return {}
    own, inherited = _layer(meta, _OWN), _layer(meta, _INHERITED)
    sessions = {key: _id(_OWN, key, value) for key, value in own.items() if value is not None}
    if len(sessions) > _MAX_SESSIONS:
        raise SessionsError(f"meta.sessions has more than {_MAX_SESSIONS} entries")
    for key in sorted(inherited.keys() - own.keys(), key=_in_bytes):
        if len(sessions) < _MAX_SESSIONS and inherited[key] is not None:
            sessions[key] = _id(_INHERITED, key, inherited[key])
    return sessions


def _layer(meta: Mapping[str, Json], name: str) -> dict[str, Json]:
    layer = meta.get(name)
    if layer is None:
        return {}
    if not isinstance(layer, dict):
        raise SessionsError(f"meta.{name} must be an object")
    return layer


def _id(layer: str, key: str, value: Json) -> str:
    if not key:
        raise SessionsError(f"meta.{layer} has an empty key")
    if len(key.encode()) > _MAX_KEY:
        raise SessionsError(f"meta.{layer} key is longer than {_MAX_KEY} bytes: {key[:40]}")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise SessionsError(f"meta.{layer}.{key} must be a string, a number or null")
    text = value if isinstance(value, str) else encode(value).decode()
    if not text:
        raise SessionsError(f"meta.{layer}.{key} must not be empty")
    if len(text.encode()) > _MAX_ID:
        raise SessionsError(f"meta.{layer}.{key} is longer than {_MAX_ID} bytes")
    return text


def _in_bytes(key: str) -> bytes:
    return key.encode()

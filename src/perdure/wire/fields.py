"""Objects of the protocol, read as leniently as the SDKs need it.

Keys match in any case and with or without underscores (one SDK writes `appname`, another `appName`); null, "" and []
mean that nothing was given. What is given and has the wrong type is refused, with the name of the field.
"""

from __future__ import annotations

from typing import Final

from perdure.model.errors import ConfigError
from perdure.model.json import Json

_NOTHING: Final[tuple[Json, ...]] = (None, "", [])


class Fields:
    """The fields of one object.

    >>> Fields({"deploy_type": "ping", "appName": None}).text("deployType")
    'ping'
    """

    def __init__(self, value: dict[str, Json]) -> None:
        self._values = {_folded(key): each for key, each in value.items() if each not in _NOTHING}

    def get(self, name: str) -> Json:
        """The value of a field, None when it was not given."""
        return self._values.get(_folded(name))

    def text(self, name: str) -> str | None:
        """A field that holds text. Raises `ConfigError`."""
        value = self.get(name)
        if value is not None and not isinstance(value, str):
            raise ConfigError(name, [f"{name}: must be text, got {shown(value)}"])
        return value

    def whole(self, name: str) -> Json:
        """A field that holds a whole number; 2.0 is one. What else it holds is for others to refuse."""
        value = self.get(name)
        return int(value) if isinstance(value, float) and value.is_integer() else value

    def object(self, name: str) -> Fields | None:
        """A field that holds an object. Raises `ConfigError`."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise ConfigError(name, [f"{name}: must be an object, got {shown(value)}"])
        return Fields(value)

    def items(self, name: str) -> list[Json]:
        """A field that holds a list, [] when it was not given. Raises `ConfigError`."""
        value = self.get(name)
        if value is not None and not isinstance(value, list):
            raise ConfigError(name, [f"{name}: must be a list, got {shown(value)}"])
        return value or []


def shown(value: Json) -> str:
    """A value in an error: short, however large it is.

    >>> shown([1, 2]), shown({"a": 1}), shown("x" * 100)[-8:]
    ('a list', 'an object', "xxxx...'")
    """
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    return repr(value[:60] + "...") if isinstance(value, str) and len(value) > 60 else repr(value)[:80]


def _folded(key: str) -> str:
    return key.replace("_", "").lower()

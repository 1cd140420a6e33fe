"""Options of requests may be spelled in camel case, as the agents protocol has it, or in snake case."""

from __future__ import annotations

import re
from typing import Final

from perdure.agents.errors import InvalidOptionError
from perdure.model.json import Json

_FIRST: Final = re.compile(r"_([a-z])")


def camel_keys(value: Json, where: str) -> dict[str, Json]:
    """An object with camelCase keys, whichever way they were spelled. Raises `InvalidOptionError`.

    >>> camel_keys({"top_k": 3, "scope": "thread"}, "options")
    {'topK': 3, 'scope': 'thread'}
    """
    if not isinstance(value, dict):
        raise InvalidOptionError(f"{where}: must be an object")
    return {_FIRST.sub(lambda found: found.group(1).upper(), key): each for key, each in value.items()}

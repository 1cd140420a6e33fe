"""Named SQL from .sql files: `-- :name NAME [payload]` starts a statement, which ends at the next name.

All SQL of a store is in such files, so that it can be read, reviewed and explained as SQL.
"""

from __future__ import annotations

import re
from typing import NamedTuple, TypeAlias

Parameter: TypeAlias = "str | int | float | bytes | None"

_HEADER = re.compile(r"^-- :name (\w+)( payload)?$", re.MULTILINE)
_WORD_START = re.compile(r"(?<!^)(?=[A-Z])")


_NUMBERED = re.compile(r"\?(\d+)")


class Statement(NamedTuple):
    """One statement. `payload` marks reads whose rows may hold references to blobs.

    A statement that uses a parameter more than once numbers its parameters (`?1`). Drivers that know only unnumbered
    ones (Python's from 3.14 on) get those: `order` says which parameter stands at each place.
    """

    sql: str
    payload: bool = False
    order: tuple[int, ...] | None = None

    def bind(self, params: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
        """The parameters at their places."""
        return params if self.order is None else tuple([params[index] for index in self.order])


def _statement(sql: str, payload: bool) -> Statement:
    numbers = _NUMBERED.findall(sql)
    if not numbers:
        return Statement(sql, payload)
    return Statement(_NUMBERED.sub("?", sql), payload, tuple(int(number) - 1 for number in numbers))


def parse_statements(text: str) -> dict[str, Statement]:
    """The statements of a .sql file by name; raises `ValueError` for a name given twice.

    >>> parse_statements("-- :name one payload\\nSELECT 1")
    {'one': Statement(sql='SELECT 1', payload=True, order=None)}
    """
    found: dict[str, Statement] = {}
    headers = list(_HEADER.finditer(text))
    for header, following in zip(headers, [*headers[1:], None], strict=True):
        name = header.group(1)
        if name in found:
            raise ValueError(f"statement {name!r} is defined twice")
        sql = text[header.end() : following.start() if following else len(text)].strip()
        found[name] = _statement(sql, header.group(2) is not None)
    return found


def statement_name(mutation: type) -> str:
    """The name of a mutation's statement.

    >>> class PutRunEvent: ...
    >>> statement_name(PutRunEvent)
    'put_run_event'
    """
    return _WORD_START.sub("_", mutation.__name__).lower()

"""Pages of runs and events that a filter chooses, by conditions and text: what lists of the APIs hold.

Conditions in the expression language are evaluated one item after the other, at most `MAX_EXAMINED` for a page. A page
that ends there may hold fewer items than asked for, or none, and its cursor leads on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec

from perdure import expressions
from perdure.engine import reads, views
from perdure.engine.turn import Decision
from perdure.engine.views import Span
from perdure.expressions import EvaluationError, Expression, ExpressionError
from perdure.model.json import Json, decode, encode
from perdure.model.records import EventRow, Run, RunStatus

MAX_PAGE: Final = 100
MAX_EXAMINED: Final = 1000
MAX_NAMES: Final = 20
MAX_COUNTED: Final = 100_000
_BATCH: Final = 100

T = TypeVar("T")


class ConditionError(ValueError):
    """A condition cannot be understood; the text says why."""


class Conditions:
    """Expressions that must all hold, in the text one a line, and words that must occur. Raises `ConditionError`.

    `words` is looked for in the name and the data of the event and in the output, capital letters or not.
    """

    def __init__(self, text: str | None, variables: frozenset[str], words: str | None = None) -> None:
        self.expressions: list[Expression] = []
        self.words = (words or "").strip().casefold()
        for line in (text or "").splitlines():
            if line.strip():
                try:
                    self.expressions.append(expressions.compile(line, variables=variables))
                except ExpressionError as error:
                    raise ConditionError(f"query: {error}") from error

    def __bool__(self) -> bool:
        return bool(self.expressions or self.words)

    def hold(self, scope: dict[str, Json], now: int) -> bool:
        """Whether all hold; a condition that cannot be evaluated does not."""
        if self.words and self.words not in _told(scope).casefold():
            return False
        try:
            return all(expression.truthy(scope, now=now) for expression in self.expressions)
        except EvaluationError:
            return False


def _told(scope: dict[str, Json]) -> str:
    """What a user sees of an event and an output, as JSON."""
    event = scope["event"] or {}
    return encode([event.get("name"), event.get("data"), scope.get("output")]).decode()


class Page(NamedTuple, Generic[T]):
    """Items, whether more may follow, and the id from which they do."""

    items: list[T]
    more: bool
    cursor: str | None


class RunFilter(msgspec.Struct):
    """Which runs; None selects all."""

    span: Span
    statuses: list[RunStatus] | None
    function_ids: list[str] | None
    app_ids: list[str] | None
    oldest_first: bool
    conditions: Conditions
    now: int
    deferred: bool | None = None


class EventFilter(msgspec.Struct):
    """Which events: received between two times (ms, both included), of some names."""

    begin: int
    end: int | None
    names: list[str] | None
    internal: bool
    conditions: Conditions
    now: int


def find_runs(chosen: RunFilter, first: int, after: str | None) -> Decision[Page[Run]]:
    """The runs after the cursor."""

    def following(limit: int, cursor: str | None) -> Decision[list[Run]]:
        return views.list_runs(
            limit,
            cursor,
            statuses=chosen.statuses,
            function_ids=chosen.function_ids,
            app_ids=chosen.app_ids,
            span=chosen.span,
            oldest_first=chosen.oldest_first,
            deferred=chosen.deferred,
        )

    def wanted(run: Run) -> Decision[bool]:
        events = yield from reads.run_events(run)
        scope = {"event": events[0].to_json() if events else None, "output": decode(run.output or b"null")}
        return chosen.conditions.hold(scope, chosen.now)

    if not chosen.conditions:
        return (yield from _plain(following, lambda run: run.id, first, after))
    return (yield from _examined(following, lambda run: run.id, wanted, first, after))


def find_events(chosen: EventFilter, first: int, after: str | None) -> Decision[Page[EventRow]]:
    """The events after the cursor, newest first."""

    def following(limit: int, cursor: str | None) -> Decision[list[EventRow]]:
        rows: list[EventRow] = []
        for name in [None] if chosen.names is None else chosen.names:
            rows += yield from views.list_events(
                limit,
                cursor,
                name=name,
                received_after=chosen.begin - 1,
                received_before=None if chosen.end is None else chosen.end + 1,
                internal=chosen.internal,
            )
        return sorted(rows, key=lambda row: row.internal_id, reverse=True)[:limit]

    def wanted(row: EventRow) -> Decision[bool]:
        yield from ()
        return chosen.conditions.hold({"event": decode(row.body)}, chosen.now)

    if not chosen.conditions:
        return (yield from _plain(following, lambda row: row.internal_id, first, after))
    return (yield from _examined(following, lambda row: row.internal_id, wanted, first, after))


def count_runs(chosen: RunFilter) -> Decision[int]:
    """How many runs there are, at most `MAX_COUNTED`; with conditions, of the first `MAX_EXAMINED`."""
    if chosen.conditions:
        return len((yield from find_runs(chosen, MAX_EXAMINED, None)).items)
    return (
        yield from views.count_listed_runs(
            MAX_COUNTED,
            statuses=chosen.statuses,
            function_ids=chosen.function_ids,
            app_ids=chosen.app_ids,
            span=chosen.span,
        )
    )


def count_events(chosen: EventFilter) -> Decision[int]:
    """How many events there are, at most `MAX_COUNTED`; with conditions, of the first `MAX_EXAMINED`."""
    if chosen.conditions:
        return len((yield from find_events(chosen, MAX_EXAMINED, None)).items)
    return (
        yield from views.count_listed_events(
            MAX_COUNTED,
            names=chosen.names,
            received_after=chosen.begin - 1,
            received_before=None if chosen.end is None else chosen.end + 1,
            internal=chosen.internal,
        )
    )


_Following = Callable[[int, str | None], Decision[list[T]]]


def _plain(following: _Following[T], identify: Callable[[T], str], first: int, after: str | None) -> Decision[Page[T]]:
    # One more than asked for tells whether there are more.
    items = yield from following(first + 1, after)
    shown = items[:first]
    return Page(shown, len(items) > first, identify(shown[-1]) if shown else after)


def _examined(
    following: _Following[T],
    identify: Callable[[T], str],
    wanted: Callable[[T], Decision[bool]],
    first: int,
    after: str | None,
) -> Decision[Page[T]]:
    found: list[T] = []
    cursor = after
    for _ in range(MAX_EXAMINED // _BATCH):
        items = yield from following(_BATCH, cursor)
        for item in items:
            cursor = identify(item)
            if (yield from wanted(item)):
                found.append(item)
                if len(found) == first:
                    return Page(found, True, cursor)
        if len(items) < _BATCH:
            return Page(found, False, cursor)
    return Page(found, True, cursor)

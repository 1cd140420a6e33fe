"""Branch environments, as the main environment's store remembers them: which there are, and which are at rest.

Each has a database of its own, so nothing here is about what is in one.
"""

from __future__ import annotations

from collections.abc import Iterable

from perdure.engine.mutations import Mutation
from perdure.engine.turn import Decision, Read, Turn
from perdure.model.environments import EnvironmentRow


class PutEnvironment(Mutation, frozen=True, gc=False):
    """Keeps an environment."""

    name: str
    created_at: int
    archived_at: int | None


class TooManyEnvironmentsError(Exception):
    """There are as many environments as there may be; the text says what to do."""


def environments() -> Decision[list[EnvironmentRow]]:
    """All branch environments, by name, archived ones included."""
    rows = yield Read("environments", ())
    return [EnvironmentRow(*row) for row in rows]


def create(turn: Turn, name: str, most: int) -> Decision[EnvironmentRow]:
    """The environment of a name, made if there is none; one that is archived stays so.

    Raises `TooManyEnvironmentsError` where there are `most` already that are not archived.
    """
    known = {row.name: row for row in (yield from environments())}
    found = known.get(name)
    if found is not None:
        return found
    _check_room(known.values(), most)
    yield PutEnvironment(name, turn.now, None)
    return EnvironmentRow(name, turn.now, None)


def archive(turn: Turn, name: str, archived: bool, most: int) -> Decision[EnvironmentRow | None]:
    """Lays an environment to rest, or wakes it; None where there is none of that name."""
    known = {row.name: row for row in (yield from environments())}
    found = known.get(name)
    if found is None or (found.archived_at is not None) == archived:
        return found
    if not archived:
        _check_room(known.values(), most)
    row = EnvironmentRow(name, found.created_at, turn.now if archived else None)
    yield PutEnvironment(row.name, row.created_at, row.archived_at)
    return row


def _check_room(rows: Iterable[EnvironmentRow], most: int) -> None:
    active = sum(row.archived_at is None for row in rows)
    if active >= most:
        raise TooManyEnvironmentsError(
            f"there are {active} environments, and may be {most}: archive one, or start the server with a larger "
            "--max-environments"
        )

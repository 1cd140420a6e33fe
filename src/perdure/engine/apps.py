"""Apps on other servers: their rows, kept in one transaction with the functions that they register."""

from __future__ import annotations

from perdure.engine.catalogue import CompiledFunction
from perdure.engine.intake import register
from perdure.engine.mutations import DeleteApp, put_app
from perdure.engine.turn import Decision, Turn
from perdure.model.config import FunctionConfig
from perdure.model.records import AppRow


def sync(turn: Turn, row: AppRow, configs: list[FunctionConfig]) -> Decision[list[CompiledFunction]]:
    """Registers an app and its functions, archiving those it no longer has; returns all functions in force.

    As with `intake.register`, what was blocked competes again with `intake.unblock`.
    """
    functions = yield from register(turn, row.id, configs)
    yield put_app(row)
    return functions


def remove(turn: Turn, app_id: str) -> Decision[list[CompiledFunction]]:
    """Forgets an app and archives its functions, whose runs rest until it registers again."""
    functions = yield from register(turn, app_id, [])
    yield DeleteApp(app_id)
    return functions


def note(turn: Turn, row: AppRow) -> Decision[None]:
    """Keeps what became known of an app besides its functions."""
    yield put_app(row)


def hand_over(turn: Turn, app_id: str) -> Decision[None]:
    """Forgets how an app on another server was reached: its functions are those of an app in this process now."""
    yield DeleteApp(app_id)

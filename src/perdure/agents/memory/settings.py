"""What of a conversation is remembered and how: the memory's own settings, and what a run asks for instead.

Options of a run are JSON in the spelling of the agents protocol (`lastMessages`, `semanticRecall`, `workingMemory`,
`generateTitle`, `readOnly`); snake case is taken as well. Invariant: what a run asks for is checked before anything
is read, and names the field that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from perdure.agents.errors import InvalidOptionError
from perdure.agents.spelling import camel_keys
from perdure.model.json import Json

Scope = Literal["resource", "thread"]


class WorkingMemory(msgspec.Struct, frozen=True):
    """Notes that the model itself keeps up to date, shown to it in every call.

    Either a `template`, Markdown that the model fills in, or a `schema`, the JSON Schema of an object into which what
    the model reports is merged. `scope`: one for all threads of a resource (default), or one a thread. With
    `read_only` the model sees the notes and cannot change them.
    """

    template: str | None = None
    schema: dict[str, Json] | None = None
    scope: Scope = "resource"
    read_only: bool = False


class SemanticRecall(msgspec.Struct, frozen=True):
    """Messages that are near in meaning to what was just said, with their neighbours, whenever they were said.

    `top_k` messages at most, each with `before` and `after` neighbours; those less alike than `threshold` (a cosine)
    are left out. `scope`: all threads of the resource (default), or the thread alone.
    """

    top_k: int = 4
    before: int = 1
    after: int = 1
    scope: Scope = "resource"
    threshold: float | None = None


class Titles(msgspec.Struct, frozen=True):
    """Threads without a title get one after the first exchange. `model` is another than the agent's, by name."""

    model: Json = None
    instructions: str | None = None


class Settings(msgspec.Struct, frozen=True):
    """What is in force. `last_messages` None is all of them; 0 turns history off: nothing is read, nothing saved."""

    last_messages: int | None = 10
    recall: SemanticRecall | None = None
    working: WorkingMemory | None = None
    titles: Titles | None = None
    read_only: bool = False


def applied(settings: Settings, options: Json, *, can_recall: bool) -> Settings:
    """The settings with the options of a run over them. Raises `InvalidOptionError`.

    >>> applied(Settings(), {"lastMessages": 3}, can_recall=False).last_messages
    3
    """
    if options is None:
        return settings
    readers: dict[str, tuple[str, Callable[[Json], Json]]] = {
        "lastMessages": ("last_messages", _last_messages),
        "semanticRecall": ("recall", lambda value: _recall(value, settings.recall, can_recall)),
        "workingMemory": ("working", lambda value: _working(value, settings.working)),
        "generateTitle": ("titles", lambda value: _titles(value, settings.titles)),
        "readOnly": ("read_only", lambda value: _bool(value, "memory.options.readOnly")),
    }
    changes: dict[str, Json] = {}
    for key, value in camel_keys(options, "memory.options").items():
        # Options of other kinds of memory come along in requests; what is not known here changes nothing.
        if key in readers and value is not None:
            field, read = readers[key]
            changes[field] = read(value)
    return msgspec.structs.replace(settings, **changes)


def _bool(value: Json, where: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidOptionError(f"{where}: must be true or false")
    return value


def _count(value: Json, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidOptionError(f"{where}: must be a whole number, 0 or more")
    return value


def _last_messages(value: Json) -> int | None:
    if value is False:
        return 0
    return None if value is True else _count(value, "memory.options.lastMessages")


def _recall(value: Json, base: SemanticRecall | None, can_recall: bool) -> SemanticRecall | None:
    where = "memory.options.semanticRecall"
    if value is False:
        return None
    if not can_recall:
        raise InvalidOptionError(f"{where}: this memory has no embedder: give Memory(embedder=...)")
    base = base or SemanticRecall()
    if value is True:
        return base
    given = camel_keys(value, where)
    changes: dict[str, Json] = {}
    if "topK" in given:
        changes["top_k"] = _count(given["topK"], f"{where}.topK")
    if "messageRange" in given:
        near = given["messageRange"]
        near = near if isinstance(near, dict) else {"before": near, "after": near}
        changes["before"] = _count(near.get("before", 0), f"{where}.messageRange.before")
        changes["after"] = _count(near.get("after", 0), f"{where}.messageRange.after")
    if "scope" in given:
        changes["scope"] = _scope(given["scope"], f"{where}.scope")
    if "threshold" in given:
        if not isinstance(given["threshold"], int | float):
            raise InvalidOptionError(f"{where}.threshold: must be a number")
        changes["threshold"] = float(given["threshold"])
    return msgspec.structs.replace(base, **changes)


def _scope(value: Json, where: str) -> Scope:
    if value == "resource":
        return "resource"
    if value == "thread":
        return "thread"
    raise InvalidOptionError(f'{where}: must be "resource" or "thread"')


def _working(value: Json, base: WorkingMemory | None) -> WorkingMemory | None:
    where = "memory.options.workingMemory"
    if isinstance(value, bool):
        value = {"enabled": value}
    given = camel_keys(value, where)
    if not _bool(given.get("enabled", True), f"{where}.enabled"):
        return None
    base = base or WorkingMemory()
    changes: dict[str, Json] = {}
    for key, kind, what in (("template", str, "a text"), ("schema", dict, "a JSON Schema")):
        if given.get(key) is not None:
            if not isinstance(given[key], kind):
                raise InvalidOptionError(f"{where}.{key}: must be {what}")
            changes[key] = given[key]
            # One of the two: what a run gives takes the place of the other.
            changes["schema" if key == "template" else "template"] = None
    if "scope" in given:
        changes["scope"] = _scope(given["scope"], f"{where}.scope")
    if "readOnly" in given:
        changes["read_only"] = _bool(given["readOnly"], f"{where}.readOnly")
    return msgspec.structs.replace(base, **changes)


def _titles(value: Json, base: Titles | None) -> Titles | None:
    if value is False:
        return None
    base = base or Titles()
    if value is True:
        return base
    given = camel_keys(value, "memory.options.generateTitle")
    instructions = given.get("instructions", base.instructions)
    if instructions is not None and not isinstance(instructions, str):
        raise InvalidOptionError("memory.options.generateTitle.instructions: must be a text")
    return Titles(given.get("model", base.model), instructions)

"""Carries exposed operations out: a call, steps one after the other, or a mock.

Arguments are checked before anything is sent. A step that fails ends the operation with the status of its upstream; no
later step is done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Protocol, TypeAlias

import msgspec

from perdure.capability import references, shaping
from perdure.capability.arguments import Argument, ArgumentError, check
from perdure.capability.calling import Caller, Result
from perdure.capability.counting import Counts
from perdure.capability.jsonpath import parse
from perdure.capability.model import Action, Capability, Exposure, Step
from perdure.capability.requests import CallError, find
from perdure.capability.scripts import Scripts
from perdure.capability.templates import TemplateError, render
from perdure.model.json import Json


class Outcome(msgspec.Struct, kw_only=True):
    """What came of an operation. With `result` the answer passes through as the upstream gave it."""

    status: int = 200
    value: Json = None
    result: Result | None = None


Record: TypeAlias = Callable[[str, Callable[[], Awaitable[Json]]], Awaitable[Json]]
"""Does what a step does, by its name, and gives what came of it; what is recorded is not done again."""


_NOTHING: Mapping[str, str] = {}


async def _at_once(name: str, call: Callable[[], Awaitable[Json]]) -> Json:
    return await call()


class Durable(Protocol):
    """What carries out durable operations."""

    async def run(self, action: Action, given: Mapping[str, Json]) -> Outcome:
        """The outcome of a durable operation. Raises `CallError`."""
        ...

    async def start(self, action: Action, given: Mapping[str, Json]) -> str:
        """Starts a durable operation, and gives the id of its run."""
        ...


class Performer:
    """Carries out the operations of one capability; durable ones where there is something that does."""

    def __init__(self, capability: Capability, caller: Caller) -> None:
        self.capability = capability
        self.caller = caller
        self.counts = Counts()
        self.durable: Durable | None = None
        self.scripts: Scripts | None = None
        """Runs scripts, where whoever runs the capability allows it."""

    async def perform(
        self,
        exposure: Exposure,
        action: Action,
        found: list[Argument],
        given: Mapping[str, Json],
        passed: Mapping[str, str] = _NOTHING,
    ) -> Outcome:
        """Carries out an action with arguments by name. Raises `CallError`."""
        with self.counts.counted(action.name) as status:
            outcome = await self._outcome(exposure, action, found, given, passed)
            status[0] = outcome.status
            return outcome

    async def _outcome(
        self,
        exposure: Exposure,
        action: Action,
        found: list[Argument],
        given: Mapping[str, Json],
        passed: Mapping[str, str],
    ) -> Outcome:
        self.check(found, given)
        if action.durable and self.durable is not None:
            return await self.durable.run(action, given)
        scope = _Scope(self, exposure, action, found, given, passed)
        try:
            if action.mode == "call":
                return await scope.simple()
            if action.mode == "steps":
                return await scope.orchestrated(_at_once)
            return Outcome(value=shaping.fixed(action.outputs, scope.lookup))
        except TemplateError as error:
            raise CallError(400, "unresolved_template", f"{action.name}: {error}") from error

    async def replay(
        self, exposure: Exposure, action: Action, found: list[Argument], given: Mapping[str, Json], record: Record
    ) -> Json:
        """Carries out an action with steps, each as it was recorded. Raises `CallError`."""
        scope = _Scope(self, exposure, action, found, given, _NOTHING)
        try:
            return (await scope.orchestrated(record)).value
        except TemplateError as error:
            raise CallError(400, "unresolved_template", f"{action.name}: {error}") from error

    def check(self, found: list[Argument], given: Mapping[str, Json]) -> None:
        """Raises `CallError` for arguments that are missing or of the wrong kind."""
        for argument in found:
            missing = find(given, argument.name) is None and self.default_for(argument) is None
            if argument.required and missing:
                raise CallError(400, "missing_parameter", f"{argument.name} is required")
        try:
            check(found, given)
        except ArgumentError as error:
            raise CallError(400, "invalid_parameter", str(error)) from error

    def default_for(self, argument: Argument) -> str | None:
        """What stands for an argument that is not given."""
        return self.caller.variables.default_for(argument.name)


class _Scope:
    """One operation under way: its arguments, and the results of its steps."""

    def __init__(
        self,
        performer: Performer,
        exposure: Exposure,
        action: Action,
        found: list[Argument],
        given: Mapping[str, Json],
        passed: Mapping[str, str],
    ) -> None:
        self._performer = performer
        self._action = action
        self._given = given
        self._optional = {each.name.lower() for each in found if not each.required}
        self._passed = passed
        self._known = references.prefixes(exposure, performer.capability.flows)
        self._steps: dict[str, Json] = {}
        self._named: dict[str, dict[str, Json]] = {}
        """What operations give names to in their results, by step."""

    async def simple(self) -> Outcome:
        result = await self._call(self._action.call, self._action.arguments)
        if not result.ok or result.binary or shaping.is_whole(self._action.outputs):
            return Outcome(status=result.reply.status, result=result)
        value = shaping.mapped(self._action.outputs, result.value, self.lookup)
        return Outcome(status=result.reply.status, value=value)

    async def orchestrated(self, record: Record) -> Outcome:
        for step in self._action.steps:
            if step.kind == "lookup":
                self._steps[step.name] = self._look_up(step)
                continue
            done = await record(step.name, partial(self._do, step))
            self._steps[step.name], self._named[step.name] = done["value"], done["named"]
        action = self._action
        return Outcome(value=shaping.orchestrated(action.mappings, action.outputs, self._steps, self.lookup))

    async def _do(self, step: Step) -> Json:
        if step.kind == "script":
            return {"value": await self._run(step), "named": {}}
        result = await self._call(step.call, step.arguments)
        if not result.ok:
            status = result.reply.status if result.reply.status >= 400 else 502
            raise CallError(status, "step_failed", f"step {step.name}: {result.told()}")
        return {"value": result.value, "named": result.all_named()}

    async def _run(self, step: Step) -> Json:
        """The result of a script. Without `with` it is given all arguments, and the results of all steps before it."""
        scripts = self._performer.scripts
        if scripts is None:
            raise CallError(500, "script_failed", f"step {step.name}: scripts are not allowed here")
        given = {name: self._value(value) for name, value in step.arguments.items()}
        return await scripts.run(step, given or {**self._given, **self._steps})

    async def _call(self, call: str, arguments: Mapping[str, Json]) -> Result:
        target = references.operation(self._performer.capability, call)
        if target is None:
            raise CallError(500, "unknown_operation", f"there is no operation {call}")
        consumer, operation = target
        given = {name: self._value(value) for name, value in arguments.items()}
        covered = {name.lower() for name in given}
        # What `with` says nothing of comes from the argument of the same name.
        given |= {name: value for name, value in self._given.items() if name.lower() not in covered}
        return await self._performer.caller.call(consumer, operation, given, self._passed)

    def _value(self, value: Json) -> Json:
        """A value of `with`: an argument, a JSONPath over the steps, a template, a variable, or itself."""
        if not isinstance(value, str):
            return value
        name = references.argument(value, self._known - self._steps.keys())
        if name is not None:
            return find(self._given, name)
        if value.startswith("$.") or value.startswith("$["):
            return self._path(value)
        parts = references.looks_like_reference(value)
        if parts and parts[0] in self._steps:
            return self._of_step(*parts)
        if value.startswith("$env."):
            return self._performer.caller.variables(value)
        constant = self._performer.caller.variables.constant(value)
        return constant if constant is not value else render(value, self._lookup_optional)

    def _path(self, text: str) -> Json:
        found = parse(text)(self._steps)
        if found is None:
            found = parse(text)(dict(self._given))
        if found is None:
            step, _, rest = text[2:].partition(".")
            found = self._named.get(step, {}).get(rest) if rest else None
        return found

    def _of_step(self, step: str, field: str) -> Json:
        """A field of a step's result, or what its operation gives that name to."""
        value = self._steps[step]
        found = find(value, field) if isinstance(value, dict) else None
        return self._named.get(step, {}).get(field) if found is None else found

    def lookup(self, name: str) -> Json:
        """The value of a name in a template. Raises `KeyError`."""
        value = find(self._given, name)
        if value is not None:
            return value
        first, _, rest = name.partition(".")
        if rest and first in self._steps:
            value = self._of_step(first, rest)
            if value is None:
                raise KeyError(name)
            return value
        argument = references.argument(name, self._known)
        if argument is not None and (value := find(self._given, argument)) is not None:
            return value
        return self._performer.caller.variables(name)

    def _lookup_optional(self, name: str) -> Json:
        try:
            return self.lookup(name)
        except KeyError:
            if name.rpartition(".")[2].lower() in self._optional:
                return None
            raise

    def _look_up(self, step: Step) -> Json:
        """The entries of an earlier step's list whose key is one of the values, with the fields that are wanted."""
        table = _entries(self._steps.get(step.index))
        if table is None:
            raise CallError(502, "bad_lookup", f"step {step.name}: the result of {step.index} is no list")
        wanted = self._value(step.lookup_value)
        by_key = {str(entry.get(step.match)): entry for entry in reversed(table) if isinstance(entry, dict)}

        def taken(value: Json) -> Json:
            entry = by_key.get(str(value))
            if entry is None or not step.fields:
                return entry
            return {field: entry.get(field) for field in step.fields}

        if not isinstance(wanted, list):
            return taken(wanted)
        return [entry for entry in map(taken, wanted) if entry is not None]


def _entries(value: Json) -> list[Json] | None:
    """A list, or the only list that an object holds."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        lists = [each for each in value.values() if isinstance(each, list)]
        return lists[0] if len(lists) == 1 else None
    return None

"""Finds names in the templates of `with` that nothing gives a value to: every call would fail for them."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator

from perdure.capability import references
from perdure.capability.arguments import arguments
from perdure.capability.findings import Findings
from perdure.capability.model import Action, Capability, Exposure
from perdure.capability.source import Path
from perdure.capability.templates import TemplateError, names
from perdure.model.json import Json


def check(capability: Capability, findings: Findings) -> None:
    """Looks at what is exposed, references to flows linked. What looks like a variable is left to the binds."""
    for exposure in capability.exposures:
        known = references.prefixes(exposure, capability.flows)
        for path, action in _actions(exposure):
            given = {each.name.lower(): each.name for each in arguments(capability, exposure, action, path)}
            for at, value in _values(action):
                for name in _names(value):
                    if not _is_filled(name, given, known, action, capability):
                        near = difflib.get_close_matches(name.rpartition(".")[2].lower(), given, 1, 0.5)
                        told = f"{{{{{name}}}}}: {action.name} has no argument, step or variable of that name"
                        findings.error(at, "unknown-name", told + (f"; is it {given[near[0]]}?" if near else ""))


def _actions(exposure: Exposure) -> Iterator[tuple[str, Action]]:
    yield from ((each.path, each.action) for each in exposure.operations)
    yield from (("", each.action) for each in exposure.tools)


def _values(action: Action) -> Iterator[tuple[Path, Json]]:
    if action.call:
        yield from (((*action.at, "with", name), value) for name, value in action.arguments.items())
    for step in action.steps:
        yield from (((*step.at, "with", name), value) for name, value in step.arguments.items())


def _names(value: Json) -> tuple[str, ...]:
    try:
        return names(value) if isinstance(value, str) else ()
    except TemplateError:
        # Told where templates are checked.
        return ()


def _is_filled(
    name: str, given: Collection[str], known: Collection[str], action: Action, capability: Capability
) -> bool:
    first, _, rest = name.partition(".")
    if name.lower() in given or (rest and first in known and rest.lower() in given):
        return True
    if rest and any(step.name == first for step in action.steps):
        return True
    last = name.rpartition(".")[2]
    return last.isupper() or any(last in bind.keys for bind in capability.binds)

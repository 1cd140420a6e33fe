"""The scripts of a document, looked at when it is opened: their languages and files."""

from __future__ import annotations

from collections.abc import Iterator

from perdure.capability.findings import Findings
from perdure.capability.model import Action, Capability, Step
from perdure.capability.scripts import LANGUAGES, path_of


def steps_of(capability: Capability) -> Iterator[Step]:
    """All steps that are scripts."""
    for action in _actions(capability):
        yield from (step for step in action.steps if step.kind == "script")


def check(capability: Capability, findings: Findings) -> None:
    """Completes scripts with what a control adapter says of all of them, and finds what cannot run."""
    settings = [each.management.get("scripting") for each in capability.exposures if each.kind == "control"]
    scripting = next((each for each in settings if isinstance(each, dict)), {})
    for step in steps_of(capability):
        step.language = (step.language or str(scripting.get("defaultLanguage") or "")).lower()
        step.location = step.location or str(scripting.get("defaultLocation") or "")
        if step.language not in LANGUAGES:
            told = f"scripts in {step.language or 'no language'} are not run; perdure runs python and javascript"
            findings.error(step.at, "not-run", told)
        step.language = LANGUAGES.get(step.language, step.language)
        for file in step.files:
            try:
                path_of(capability.folder, step.location, file)
            except ValueError as error:
                findings.error(step.at, "bad-path", str(error))
        told = "a script may do whatever its user may; `capability run` runs it with --allow-scripts alone"
        findings.warning(step.at, "script", told)


def _actions(capability: Capability) -> Iterator[Action]:
    for exposure in capability.exposures:
        yield from (each.action for each in exposure.operations)
        yield from (each.action for each in exposure.tools)
        yield from (each.action for each in exposure.resources)
    yield from (each.action for each in capability.flows)

"""What cannot work in a capability, and what its author probably did not mean; the shapes are the reader's business."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator

from perdure.capability import references
from perdure.capability.findings import Findings
from perdure.capability.locations import file_of
from perdure.capability.model import Action, Authentication, Capability, Consumer, Exposure, Output, Parameter
from perdure.capability.source import Path
from perdure.capability.templates import TemplateError, path_names
from perdure.capability.texts import check_texts
from perdure.model.json import Json


def check(capability: Capability, findings: Findings) -> None:
    """Looks through a whole capability; its references to flows need not be linked yet."""
    _check_namespaces(capability, findings)
    check_texts(findings.source.data, (), findings)
    known = {name for bind in capability.binds for name in bind.keys}
    for consumer in capability.consumers:
        _check_secrets(consumer.authentication, known, findings)
        _check_consumer(consumer, findings)
    for each in capability.flows:
        _check_action(capability, findings, each.action, references.prefixes(_NOWHERE, capability.flows))
    for exposure in capability.exposures:
        _check_secrets(exposure.authentication, known, findings)
        _check_exposure(capability, exposure, findings)
    if not capability.exposures:
        findings.warning((), "nothing-exposed", "the document exposes nothing that could be run")


_NOWHERE = Exposure(kind="mcp", namespace="")


def _check_namespaces(capability: Capability, findings: Findings) -> None:
    seen: set[str] = set()
    places = [(each.namespace, each.at) for each in capability.consumers]
    for namespace, at in [*places, *((each.namespace, each.at) for each in capability.exposures)]:
        if namespace and namespace in seen:
            findings.error(at, "duplicate-name", f"the namespace {namespace} is taken before")
        seen.add(namespace)


_SECRETS = ("token", "password", "value")


def _check_secrets(authentication: Authentication | None, known: Collection[str], findings: Findings) -> None:
    if authentication is None:
        return
    for field in _SECRETS:
        given = authentication.settings.get(field)
        if not isinstance(given, str) or not given or "{{" in given or given.startswith("$env.") or given in known:
            continue
        told = f"{field} is written in the document; bind it to a variable, so that the document can be shared"
        findings.warning((*authentication.at, field), "literal-secret", told)


def _check_consumer(consumer: Consumer, findings: Findings) -> None:
    seen: set[tuple[str, str]] = set()
    for operation in consumer.operations:
        if (operation.resource, operation.name) in seen:
            findings.error(operation.at, "duplicate-name", f"there is another operation {operation.name} before it")
        seen.add((operation.resource, operation.name))
        in_path = {name.lower() for name in _names(path_names, operation.path)}
        if "{" in operation.path.replace("{{", "") and in_path:
            told = f"{operation.path}: the format writes {{{{name}}}} in paths; perdure fills {{name}}, too"
            findings.warning(operation.at, "single-brace", told)
        declared = {each.name.lower() for each in operation.inputs if each.place == "path"}
        for name in declared - in_path:
            findings.error(operation.at, "path-parameter", f"{name} is in: path, but not in the path {operation.path}")
        for name in in_path - declared:
            told = f"{{{name}}} is in the path, but no parameter declares it; perdure asks the caller for it"
            findings.warning(operation.at, "path-parameter", told)
        for parameter in operation.inputs:
            if not parameter.place:
                findings.error(parameter.at, "missing-key", f"the consumed parameter {parameter.name} needs in:")


def _names(read: Callable[[str], tuple[str, ...]], text: str) -> tuple[str, ...]:
    try:
        return read(text)
    except TemplateError:
        return ()


def _check_exposure(capability: Capability, exposure: Exposure, findings: Findings) -> None:
    known = references.prefixes(exposure, capability.flows)
    for path, action in _actions(exposure):
        _check_action(capability, findings, action, known)
        if exposure.kind == "rest":
            _check_route(action, path, findings)
    for forward in exposure.forwards:
        if all(each.namespace != forward.target for each in capability.consumers):
            told = f"forward: nothing is consumed under {forward.target}"
            findings.error(forward.at, "unknown-target", told)
    for resource in exposure.resources:
        _check_location(resource.location, resource.action.at, findings)
    for prompt in exposure.prompts:
        if not prompt.messages and not prompt.location:
            findings.error(prompt.at, "missing-key", f"the prompt {prompt.name} needs a template or a location")
        _check_location(prompt.location, prompt.at, findings)
    siblings = {each.namespace: each for each in capability.exposures}
    for skill in exposure.skills:
        _check_location(skill.location, skill.at, findings)
        for tool in skill.tools:
            source = siblings.get(tool.source)
            offered = {name for _, action in (_actions(source) if source else ()) for name in (action.name,)}
            if tool.source and tool.action not in offered:
                told = f"there is no {tool.action} in an adapter {tool.source} of this document"
                findings.error(tool.at, "unknown-target", told)
            if not tool.source and not tool.instruction:
                findings.error(tool.at, "missing-key", f"the tool {tool.name} needs from or instruction")


def _check_location(location: str, at: Path, findings: Findings) -> None:
    try:
        if file_of(location) and not location.startswith("file:"):
            findings.error(at, "unknown-location", "location must be a file:/// URI")
    except ValueError as error:
        findings.error(at, "unknown-location", f"location: {error}")


def _actions(exposure: Exposure) -> Iterator[tuple[str, Action]]:
    for operation in exposure.operations:
        yield operation.path, operation.action
    for tool in exposure.tools:
        yield "", tool.action
    for resource in exposure.resources:
        if not resource.location:
            yield resource.uri, resource.action


def _check_route(action: Action, path: str, findings: Findings) -> None:
    in_path = {name.lower(): name for name in _names(path_names, path)}
    for parameter in action.inputs:
        if parameter.place == "path" and parameter.name.lower() not in in_path:
            findings.error(parameter.at, "path-parameter", f"{parameter.name} is in: path, but not in the path {path}")
    for name, value in action.arguments.items():
        parts = references.looks_like_reference(value)
        if parts and parts[1].lower() in in_path and in_path[parts[1].lower()] != parts[1]:
            told = f"{value} means {{{in_path[parts[1].lower()]}}} of the path, in another case"
            findings.warning((*action.at, "with", name), "other-case", told)


def _check_action(capability: Capability, findings: Findings, action: Action, known: Collection[str]) -> None:
    _check_mode(capability, findings, action)
    earlier: list[str] = []
    for step in action.steps:
        if step.kind == "call":
            _check_call(capability, findings, step.call, step.at)
            _check_with(capability, findings, step.call, step.arguments, step.at, known, earlier)
        elif step.kind == "lookup" and step.index not in earlier:
            findings.error(step.at, "unknown-step", f"index: there is no step {step.index} before this one")
        earlier.append(step.name)
    for mapping in action.mappings:
        text = mapping.value
        if isinstance(text, str) and text.startswith("$."):
            step_name = text[2:].partition(".")[0].partition("[")[0]
            if step_name and step_name not in earlier:
                findings.error(mapping.at, "unknown-step", f"{text}: there is no step {step_name}")
    if action.call:
        _check_call(capability, findings, action.call, action.at)
        _check_with(capability, findings, action.call, action.arguments, action.at, known, ())
    _check_inputs(action.inputs, findings)
    if action.mode == "call":
        _check_outputs(action.outputs, findings)


def _check_mode(capability: Capability, findings: Findings, action: Action) -> None:
    ways = [key for key, given in (("call", action.call), ("steps", action.steps), ("ref", action.ref)) if given]
    if len(ways) > 1:
        findings.error(action.at, "two-modes", f"{action.name} has {' and '.join(ways)}; it can have one of them")
    if not ways and not action.outputs:
        findings.error(action.at, "no-mode", f"{action.name} needs call, steps, ref, or outputParameters with values")
    if action.ref and references.flow(capability, action.ref) is None:
        flows = [f"{each.aggregate}.{each.action.name}" for each in capability.flows]
        told = f"ref: there is no flow {action.ref}{_near(action.ref, flows)}"
        findings.error((*action.at, "ref"), "unknown-target", told)


def _check_call(capability: Capability, findings: Findings, call: str, at: Path) -> None:
    if call and references.operation(capability, call) is None:
        told = f"call: there is no operation {call}{_near(call, references.suggestions(capability))}"
        findings.error((*at, "call"), "unknown-target", told)


def _check_with(
    capability: Capability,
    findings: Findings,
    call: str,
    arguments: dict[str, Json],
    at: Path,
    known: Collection[str],
    steps: Collection[str],
) -> None:
    target = references.operation(capability, call)
    if target is None:
        return
    _, operation = target
    takes = {each.name.lower() for each in operation.inputs} | {
        name.lower() for name in _names(path_names, operation.path)
    }
    templated = str(operation.body.data) if operation.body is not None else ""
    for name, value in arguments.items():
        path = (*at, "with", name)
        if name.lower() not in takes and name.lower() != "body" and name not in templated:
            told = f"{call} takes no {name}{_near(name, sorted(takes))}"
            findings.error(path, "unknown-parameter", told)
        if isinstance(value, dict | list | bool) or value is None:
            findings.error(path, "wrong-type", f"with: {name} must be text or a number")
        parts = references.looks_like_reference(value)
        if parts is None or parts[0] in known or parts[0] in steps or "{{" in str(value) or str(value)[:1] == "$":
            continue
        if parts[1].lower() in takes:
            told = f"{value}: {parts[0]} is no adapter of this kind, and no step before; is it rest.{parts[1]}?"
            findings.error(path, "unknown-prefix", told)
        else:
            findings.warning(path, "literal", f"{value} refers to nothing here; it is sent as it is")


def _check_inputs(inputs: list[Parameter], findings: Findings) -> None:
    for parameter in inputs:
        if not parameter.type:
            told = f"{parameter.name} has no type; perdure takes it for a string"
            findings.warning(parameter.at, "missing-key", told)


def _check_outputs(outputs: list[Output], findings: Findings) -> None:
    for output in outputs:
        if output.type == "object" and output.properties is None and output.value is None:
            told = "an object needs properties; perdure passes the whole value through"
            findings.warning(output.at, "whole-output", told)
        elif output.type == "array" and output.items is None and output.value is None:
            findings.warning(output.at, "whole-output", "an array needs items; perdure passes its values through")


def _near(word: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(word, known, 1, 0.5)
    return f"; is it {near[0]}?" if near else ""

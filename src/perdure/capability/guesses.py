"""What perdure fills in where a document leaves something out, told as warnings with what was made of it."""

from __future__ import annotations

from collections.abc import Iterator

from perdure.capability.arguments import arguments
from perdure.capability.findings import Findings
from perdure.capability.model import Action, Capability, Exposure
from perdure.capability.references import looks_like_reference


def check(capability: Capability, findings: Findings) -> None:
    """Looks at what is exposed, references to flows linked."""
    for exposure in capability.exposures:
        for path, action in _actions(exposure):
            _check_prefixes(exposure, action, findings)
            _check_inferred(capability, exposure, action, path, findings)
            if exposure.kind == "mcp" and capability.explicit_required:
                _check_required(action, findings)


def _actions(exposure: Exposure) -> Iterator[tuple[str, Action]]:
    yield from ((each.path, each.action) for each in exposure.operations)
    yield from (("", each.action) for each in exposure.tools)


def _check_prefixes(exposure: Exposure, action: Action, findings: Findings) -> None:
    for name, value in action.arguments.items():
        parts = looks_like_reference(value)
        if parts and not action.ref and parts[0] in ("rest", "tools", "mcp") and parts[0] != exposure.namespace:
            told = f"{value}: the format writes {exposure.namespace}.{parts[1]}; perdure takes it for that"
            findings.warning((*action.at, "with", name), "adapter-prefix", told)


def _check_inferred(capability: Capability, exposure: Exposure, action: Action, path: str, findings: Findings) -> None:
    inferred = [each.name for each in arguments(capability, exposure, action, path) if each.inferred]
    if inferred:
        told = f"{action.name} declares no argument {', '.join(inferred)}; perdure takes it from what is called"
        findings.warning(action.at, "inferred-argument", told)


def _check_required(action: Action, findings: Findings) -> None:
    for parameter in action.inputs:
        if parameter.required is None and parameter.at:
            told = (
                f"{parameter.name} does not say whether it is required, others here do; perdure takes it for optional"
            )
            findings.warning(parameter.at, "unsaid-required", told)

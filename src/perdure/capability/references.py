"""What names in a document mean: operations that are called, flows that are referred to, arguments in `with`.

An argument is `NAMESPACE.name`, where the namespace is that of the adapter; documents also write the adapter's type, or
`rest` and `tools`. Anything else of that form, unless it is a step, is text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

import msgspec

from perdure.capability.model import Action, Capability, ConsumedOperation, Consumer, Exposure, Flow

_REFERENCE = re.compile(r"(?:\$this\.)?([A-Za-z][\w-]*)\.([\w*-]+)\Z")
_WORDS = frozenset({"rest", "tools", "mcp", "resources", "prompts", "api"})


def operation(capability: Capability, call: str) -> tuple[Consumer, ConsumedOperation] | None:
    """The operation that `namespace.operation` or `namespace.resource.operation` names."""
    namespace, _, rest = call.partition(".")
    resource, _, name = rest.rpartition(".")
    for consumer in capability.consumers:
        if consumer.namespace != namespace:
            continue
        for each in consumer.operations:
            if each.name == name and resource in ("", each.resource):
                return consumer, each
    return None


def suggestions(capability: Capability) -> list[str]:
    """The operations that may be called."""
    return [f"{each.namespace}.{one.name}" for each in capability.consumers for one in each.operations]


def flow(capability: Capability, ref: str) -> Flow | None:
    """The flow that `aggregate.flow` names."""
    aggregate, _, name = ref.partition(".")
    return next((each for each in capability.flows if (each.aggregate, each.action.name) == (aggregate, name)), None)


def prefixes(exposure: Exposure, flows: Iterable[Flow] = ()) -> frozenset[str]:
    """What may stand before the name of an argument."""
    return _WORDS | {exposure.namespace, exposure.kind} | {each.aggregate for each in flows}


def argument(text: object, known: Collection[str]) -> str | None:
    """The argument that a text refers to; None where it is no reference.

    >>> argument("rest.runId", {"rest"}), argument("example.com", {"rest"})
    ('runId', None)
    """
    match = _REFERENCE.match(text) if isinstance(text, str) else None
    return match[2] if match and match[1] in known else None


def looks_like_reference(text: object) -> tuple[str, str] | None:
    """The two parts of a text that has the form of a reference."""
    match = _REFERENCE.match(text) if isinstance(text, str) else None
    return (match[1], match[2]) if match else None


def link(capability: Capability) -> None:
    """Replaces references to flows by what the flows do; what is said at the reference itself comes first."""
    for exposure in capability.exposures:
        for each in exposure.operations:
            each.action = _linked(capability, each.action)
        for tool in exposure.tools:
            found = flow(capability, tool.action.ref) if tool.action.ref else None
            tool.hints = {**(_hints(found) if found else {}), **tool.hints}
            tool.action = _linked(capability, tool.action)
        for resource in exposure.resources:
            resource.action = _linked(capability, resource.action)


def _linked(capability: Capability, action: Action) -> Action:
    found = flow(capability, action.ref) if action.ref else None
    if found is None:
        return action
    base = found.action
    own = {each.name for each in action.inputs}
    return msgspec.structs.replace(
        action,
        title=action.title or base.title,
        description=action.description or base.description,
        inputs=[*action.inputs, *(each for each in base.inputs if each.name not in own)],
        call=base.call,
        arguments={**base.arguments, **action.arguments},
        steps=base.steps,
        mappings=base.mappings,
        outputs=action.outputs or base.outputs,
        durable=action.durable or base.durable,
    )


def _hints(found: Flow) -> dict[str, bool]:
    safe = found.semantics.get("safe")
    hints: dict[str, bool] = {}
    if safe is not None:
        hints["readOnly"] = safe
        if safe:
            hints["destructive"] = False
    if "idempotent" in found.semantics:
        hints["idempotent"] = found.semantics["idempotent"]
    return hints

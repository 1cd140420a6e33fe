"""What a capability exposes and consumes, as plain data to show."""

from __future__ import annotations

from collections.abc import Iterator

from perdure.capability import references
from perdure.capability.arguments import Argument, arguments, schema_of
from perdure.capability.loading import Opened
from perdure.capability.model import Action, Capability, Exposure
from perdure.model.json import Json


def describe(opened: Opened) -> dict[str, Json]:
    """A document: its upstreams, variables, and adapters with their operations."""
    capability = opened.capability
    return {
        "title": capability.title,
        "root": "ikanos" if isinstance(opened.source.data, dict) and "ikanos" in opened.source.data else "naftiko",
        "version": capability.version,
        "consumes": [
            {
                "namespace": each.namespace,
                "baseUri": each.base_uri,
                "authentication": each.authentication.kind if each.authentication else "",
                "operations": [f"{one.method} {one.path}" for one in each.operations],
            }
            for each in capability.consumers
        ],
        "binds": [
            {"name": f"{each.namespace}.{name}", "from": f"{each.location or 'the environment'}: {key}"}
            for each in capability.binds
            for name, key in each.keys.items()
        ],
        "exposes": [_exposure(capability, each) for each in capability.exposures],
    }


def _exposure(capability: Capability, exposure: Exposure) -> dict[str, Json]:
    return {
        "type": exposure.kind,
        "namespace": exposure.namespace,
        "port": exposure.port,
        "operations": list(_operations(capability, exposure)),
    }


def _operations(capability: Capability, exposure: Exposure) -> Iterator[dict[str, Json]]:
    for each in exposure.operations:
        found = arguments(capability, exposure, each.action, each.path)
        yield _shown(capability, f"{each.method} {each.path}", each.action, found)
    for forward in exposure.forwards:
        yield {"name": f"* {forward.path}", "arguments": "", "upstream": f"forwards to {forward.target}"}
    for tool in exposure.tools:
        found = arguments(capability, exposure, tool.action)
        yield _shown(capability, tool.action.name, tool.action, found) | {"hints": tool.hints}
    for resource in exposure.resources:
        found = arguments(capability, exposure, resource.action, resource.uri)
        yield _shown(capability, resource.uri, resource.action, found) | (
            {"upstream": resource.location} if resource.location else {}
        )
    for prompt in exposure.prompts:
        yield {
            "name": f"prompt {prompt.name}",
            "arguments": ", ".join(each.name for each in prompt.arguments),
            "upstream": "",
        }
    for skill in exposure.skills:
        yield {"name": f"skill {skill.name}", "arguments": ", ".join(each.name for each in skill.tools), "upstream": ""}


def _shown(capability: Capability, name: str, action: Action, found: list[Argument]) -> dict[str, Json]:
    return {
        "name": name,
        "arguments": ", ".join(f"{each.name}{'*' if each.required else ''}" for each in found),
        "upstream": " then ".join(upstream_calls(capability, action)) or "none: fixed values",
        "inputSchema": schema_of(found),
    }


def upstream_calls(capability: Capability, action: Action) -> list[str]:
    """The requests of an action, as method and path."""
    calls = [action.call] if action.call else [step.call for step in action.steps if step.call]
    targets = [references.operation(capability, call) for call in calls]
    return [f"{each[1].method} {each[1].path}" for each in targets if each is not None]

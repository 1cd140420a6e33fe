"""From the entries of a document to what is exposed: operations, tools, resources, prompts, skills, and actions."""

from __future__ import annotations

from perdure.capability.fields import Fields
from perdure.capability.model import (
    Action,
    Exposure,
    Forward,
    Mapping,
    Output,
    Prompt,
    Resource,
    RestOperation,
    Skill,
    SkillTool,
    Step,
    Tool,
)
from perdure.capability.reading_parts import authentication, parameters
from perdure.model.json import Json

_STEP_KINDS = ("call", "lookup", "script")
_OUTPUT_TYPES = ("string", "number", "integer", "boolean", "object", "array")
_MANAGED = ("health", "info", "scripting")
_FRONT = (
    "license", "compatibility", "metadata", "allowed-tools", "argument-hint", "user-invocable",
    "disable-model-invocation",
)  # fmt: skip


def exposure(entry: Fields) -> Exposure:
    """One adapter."""
    kind = entry.text("type", needed=True)
    if kind == "api":
        kind = "rest"
        entry.findings.warning(entry.path("type"), "old-word", "type api is rest since version 1.0.0")
    if kind not in ("rest", "mcp", "skill", "control"):
        told = f"type {kind!r} of what is exposed is none of rest, mcp, skill, control"
        entry.findings.error(entry.path("type"), "unknown-type", told)
    found = Exposure(
        kind=kind,
        namespace=entry.text("namespace", needed=kind != "control"),
        port=entry.number("port"),
        address=entry.text("address") or "localhost",
        transport=entry.text("transport") or "http",
        description=entry.text("description"),
        authentication=authentication(entry),
        management=entry.mapping("management"),
        at=entry.at,
    )
    if not 0 <= found.port < 65536:
        entry.findings.error(entry.path("port"), "bad-port", f"port {found.port} is none")
    if found.transport not in ("http", "stdio"):
        entry.findings.error(entry.path("transport"), "unknown-type", "transport must be http or stdio")
    if kind == "rest":
        _rest(entry, found)
    elif kind == "mcp":
        _mcp(entry, found)
    elif kind == "control":
        _control(entry, found)
    elif kind == "skill":
        found.skills = [_skill(name, each) for name, each in entry.named("skills", "exposed skill")]
    return found


def _control(entry: Fields, found: Exposure) -> None:
    for name, wanted in found.management.items():
        if name not in _MANAGED and wanted not in (False, None):
            told = f"perdure's control adapter has no {name}; it tells health, status (info) and metrics"
            entry.findings.warning((*entry.path("management"), name), "not-used", told)
    if entry.mapping("observability").get("traces") not in (None, False):
        told = "perdure keeps no traces of a capability; it passes traceparent on"
        entry.findings.warning(entry.path("observability"), "not-used", told)


def _rest(entry: Fields, found: Exposure) -> None:
    for _, resource in entry.named("resources", "exposed resource", unnamed=True):
        path = resource.text("path", needed=True)
        path = path if path.startswith("/") else f"/{path}"
        shared = parameters(resource, "exposed parameter")
        for name, operation in resource.named("operations", "exposed operation", unnamed=True):
            method = (operation.text("method") or "GET").upper()
            made = action(name or f"{method.lower()}{path}", operation, "exposed parameter")
            own = {each.name for each in made.inputs}
            made.inputs = [each for each in shared if each.name not in own] + made.inputs
            found.operations.append(RestOperation(method=method, path=path, action=made))
        if resource.has("forward"):
            forward = Fields(resource.findings, "forward", resource.value["forward"], resource.path("forward"))
            found.forwards.append(
                Forward(
                    path=path,
                    target=forward.text("targetNamespace", needed=True),
                    trusted_headers=forward.words("trustedHeaders"),
                    at=forward.at,
                )
            )


def _mcp(entry: Fields, found: Exposure) -> None:
    for name, tool in entry.named("tools", "tool"):
        made = action(name, tool, "tool parameter")
        hints = tool.flags("hints" if tool.has("hints") else "annotations", "hints")
        found.tools.append(Tool(action=made, hints=hints))
    for name, resource in entry.named("resources", "mcp resource"):
        found.resources.append(
            Resource(
                uri=resource.text("uri", needed=True),
                media_type=resource.text("mimeType"),
                binary=resource.flag("binary") or False,
                location=resource.text("location"),
                action=action(name, resource, "tool parameter"),
            )
        )
    for name, prompt in entry.named("prompts", "prompt"):
        messages = [(each.text("role"), each.text("content")) for each in prompt.each("template", "message")]
        found.prompts.append(
            Prompt(
                name=name,
                title=prompt.text("label", "display"),
                description=prompt.text("description"),
                arguments=parameters(prompt, "prompt argument", "arguments"),
                messages=messages,
                location=prompt.text("location"),
                at=prompt.at,
            )
        )


def _skill(name: str, entry: Fields) -> Skill:
    tools: list[SkillTool] = []
    for tool_name, tool in entry.named("tools", "skill tool"):
        source = Fields(entry.findings, "source", tool.value.get("from") or {}, tool.path("from"))
        tools.append(
            SkillTool(
                name=tool_name,
                description=tool.text("description"),
                source=source.text("sourceNamespace"),
                action=source.text("action"),
                instruction=tool.text("instruction"),
                at=tool.at,
            )
        )
    return Skill(
        name=name,
        description=entry.text("description", needed=True),
        front={key: entry.value[key] for key in _FRONT if entry.has(key)},
        location=entry.text("location"),
        tools=tools,
        at=entry.at,
    )


def action(name: str, entry: Fields, parameter_kind: str) -> Action:
    """What an exposed operation, tool, resource or flow does."""
    mappings = [
        Mapping(each.text("target", "targetName", needed=True), each.value.get("value"), each.at)
        for each in entry.each("mappings", "mapping")
    ]
    return Action(
        name=name,
        title=entry.text("label", "display", "title"),
        description=entry.text("description"),
        inputs=parameters(entry, parameter_kind),
        ref=entry.text("ref"),
        call=entry.text("call"),
        arguments=entry.mapping("with"),
        steps=[_step(step_name, each) for step_name, each in entry.named("steps", "step")],
        mappings=mappings,
        outputs=outputs(entry, "outputParameters"),
        durable=_durable(entry),
        at=entry.at,
    )


def _durable(entry: Fields) -> bool:
    """Whether the steps are a run: `durable: true`, or, so that other engines take it, within `x-perdure`."""
    extension = entry.mapping("x-perdure")
    durable = entry.flag("durable") or extension.get("durable") is True
    if durable and not (entry.has("steps") or entry.has("ref")):
        entry.findings.error(entry.at, "not-durable", "durable needs steps: each is recorded")
    return durable


def _step(name: str, entry: Fields) -> Step:
    kind = entry.text("type") or ("call" if entry.has("call") else "")
    if kind not in _STEP_KINDS:
        entry.findings.error(entry.at, "unknown-type", f"step type {kind!r} is none of {', '.join(_STEP_KINDS)}")
    return Step(
        name=name,
        kind=kind,
        call=entry.text("call", needed=kind == "call"),
        arguments=entry.mapping("with"),
        index=entry.text("index", needed=kind == "lookup"),
        match=entry.text("match", needed=kind == "lookup"),
        lookup_value=entry.text("lookupValue", needed=kind == "lookup"),
        fields=entry.words("outputParameters"),
        language=entry.text("language"),
        location=entry.text("location"),
        files=[*entry.words("dependencies"), entry.text("file", needed=True)] if kind == "script" else [],
        at=entry.at,
    )


def outputs(entry: Fields, key: str) -> list[Output]:
    """What an object says of results, as a list or a map."""
    return [_output(name, each) for name, each in entry.named(key, "output", unnamed=True)]


def _output(name: str, entry: Fields) -> Output:
    type_ = entry.text("type") or ("array" if entry.has("items") else "object")
    if type_ not in _OUTPUT_TYPES:
        entry.findings.error(
            entry.path("type"), "unknown-type", f"type {type_!r} is none of {', '.join(_OUTPUT_TYPES)}"
        )
    properties = outputs(entry, "properties") if entry.has("properties") else None
    return Output(
        name=name,
        type=type_,
        mapping=entry.text("mapping"),
        value=entry.value.get("value"),
        properties=properties,
        items=_items(entry),
        at=entry.at,
    )


def _items(entry: Fields) -> Output | None:
    """The items of an array: one output, or, in orchestrated operations, the fields of an object by name."""
    items: Json = entry.value.get("items")
    if items is None:
        return None
    if isinstance(items, dict) and isinstance(items.get("type"), str):
        return _output("", Fields(entry.findings, "output", items, entry.path("items")))
    return Output(type="object", properties=outputs(entry, "items"), at=entry.path("items"))

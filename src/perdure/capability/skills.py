"""Capabilities as Agent Skills: a folder with SKILL.md, references, a client without dependencies, and the document.

The folder is what hosts of agents load: its name is that of the skill, and its front matter says what it does and when
to use it. Everything in it follows from the document; the same document gives the same folder.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from importlib.resources import files

import yaml

from perdure.capability.arguments import Argument, arguments
from perdure.capability.describing import upstream_calls
from perdure.capability.model import Capability, Exposure, RestOperation, Tool
from perdure.capability.openapi import document
from perdure.capability.source import DocumentError, parse
from perdure.model.json import Json, encode

_MAX_NAME, _MAX_DESCRIPTION = 64, 1024


def slug(text: str) -> str:
    """The name of a skill: lower case, digits and single hyphens.

    >>> slug("Inngest REST API!")
    'inngest-rest-api'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_MAX_NAME].strip("-") or "capability"


def skill(capability: Capability, text: str = "", name: str = "") -> dict[str, bytes]:
    """The files of the skill of a capability, by path within its folder.

    `text` is the document as it is written. Without it the skill is one of a server that serves the capability already:
    it needs neither the document, which may hold credentials, nor a client.
    """
    name = slug(name or capability.title or "capability")
    made = {
        "SKILL.md": _skill(capability, name, text),
        "references/tools.md": _tools(capability),
    }
    if not text:
        return {path: content.encode() for path, content in made.items()}
    made["assets/capability.yaml"] = text
    if any(each.kind == "rest" for each in capability.exposures):
        made["references/rest.md"] = _rest(capability)
        made["assets/openapi.json"] = encode(document(capability)).decode() + "\n"
        made["scripts/call.py"] = files("perdure.capability").joinpath("skill_client.txt").read_text(encoding="utf-8")
    if any(each.kind == "mcp" for each in capability.exposures):
        made["assets/mcp.json"] = encode(_mcp_settings(capability)).decode() + "\n"
    return {path: content.encode() for path, content in made.items()}


def front_matter(fields: dict[str, Json]) -> str:
    """The front matter of a SKILL.md."""
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=1000)}---\n"


def front(manifest: bytes) -> dict[str, Json]:
    """The front matter of a SKILL.md; empty where there is none that can be read."""
    parts = manifest.decode("utf-8", "replace").split("---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        return {}
    try:
        found = parse(parts[1]).data
    except DocumentError:
        return {}
    return found if isinstance(found, dict) else {}


def _skill(capability: Capability, name: str, text: str) -> str:
    about = capability.description or f"Use the API {capability.title or name}."
    when = f" Use when asked to work with {capability.title or name}."
    read_only = [
        f"mcp__{exposure.namespace}__{tool.action.name}"
        for exposure, tool in _all_tools(capability)
        if tool.hints.get("readOnly")
    ]
    fields: dict[str, Json] = {
        "name": name,
        "description": about[: _MAX_DESCRIPTION - len(when)] + when,
        "metadata": {"perdure.version": capability.revision or "1"},
    }
    if text:
        fields["metadata"]["perdure.source"] = hashlib.sha256(text.encode()).hexdigest()[:16]
    if read_only:
        fields["allowed-tools"] = " ".join(read_only)
    return front_matter(fields) + "\n".join(_body(capability, bool(text))) + "\n"


def _body(capability: Capability, exported: bool) -> Iterator[str]:
    yield f"# {capability.title or 'Capability'}\n"
    yield f"{capability.description}\n"
    variables = [name for bind in capability.binds for name in bind.keys]
    if exported:
        yield "## Before you begin\n"
        yield "Serve the capability with `perdure capability run assets/capability.yaml`, or use a server that does."
        if variables:
            yield f"It needs these variables in its environment: {', '.join(f'`{each}`' for each in variables)}."
            yield "Never write their values into files or answers."
        yield ""
    yield "## Tools\n"
    yield "| tool | what it does | effect |\n|---|---|---|"
    for _, tool in _all_tools(capability):
        yield f"| `{tool.action.name}` | {_line(tool.action.description)} | {_effect(tool)} |"
    for _, operation in _all_routes(capability):
        yield f"| `{operation.method} {operation.path}` | {_line(operation.action.description)} | REST |"
    yield "\n## How to work\n"
    yield "1. Look first: use what only reads before what changes something."
    yield "2. Ask the user before anything destructive, and say what it will do."
    yield "3. Take ids from answers; never make them up."
    yield "\n## When something fails\n"
    yield "- `missing_parameter` or `invalid_parameter`: the arguments are wrong; the text says which. Mend and repeat."
    yield "- `HTTP 401` or `403`: the credentials are missing or wrong. Tell the user; do not try others."
    yield "- `HTTP 404`: there is no such thing. Look for the right id."
    yield "- `upstream_unreachable` or `upstream_timeout`: the API does not answer. Wait, and repeat what only reads."
    yield "\nArguments and examples: [references/tools.md](references/tools.md)."
    if exported and any(each.kind == "rest" for each in capability.exposures):
        yield "The same over REST: [references/rest.md](references/rest.md), or `python scripts/call.py --help`."


def _all_tools(capability: Capability) -> Iterator[tuple[Exposure, Tool]]:
    return ((exposure, tool) for exposure in capability.exposures for tool in exposure.tools)


def _all_routes(capability: Capability) -> Iterator[tuple[Exposure, RestOperation]]:
    tools = any(exposure.tools for exposure in capability.exposures)
    return ((each, one) for each in capability.exposures for one in each.operations if not tools)


def _effect(tool: Tool) -> str:
    if tool.hints.get("readOnly"):
        return "reads"
    return "destructive: ask first" if tool.hints.get("destructive", True) else "changes something"


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _tools(capability: Capability) -> str:
    lines = ["# Tools\n"]
    for exposure, tool in _all_tools(capability):
        found = arguments(capability, exposure, tool.action)
        lines += [f"## {tool.action.name}\n", f"{tool.action.description or tool.action.name}\n"]
        lines += _arguments(found)
        lines.append(
            f"Effect: {_effect(tool)}. Upstream: {'; '.join(upstream_calls(capability, tool.action)) or 'none'}.\n"
        )
        example = {each.name: _example(each) for each in found if each.required}
        lines += ["Example:\n", f"```json\n{encode({'name': tool.action.name, 'arguments': example}).decode()}\n```\n"]
    return "\n".join(lines) if len(lines) > 1 else "# Tools\n\nThe capability has none; use its REST adapter.\n"


def _arguments(found: list[Argument]) -> list[str]:
    if not found:
        return ["It takes no arguments.\n"]
    rows = [
        f"| `{each.name}` | {_type(each)} | {'yes' if each.required else 'no'} | "
        f"{_line(str(each.schema.get('description', '')))} |"
        for each in found
    ]
    return ["| argument | type | required | meaning |\n|---|---|---|---|", *rows, ""]


def _type(argument: Argument) -> str:
    type_ = argument.schema.get("type", "string")
    return " or ".join(type_) if isinstance(type_, list) else str(type_)


def _example(argument: Argument) -> Json:
    samples: dict[str, Json] = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}}
    if "enum" in argument.schema:
        return argument.schema["enum"][0]
    return samples.get(_type(argument).partition(" ")[0], f"<{argument.name}>")


def _rest(capability: Capability) -> str:
    lines = ["# REST\n", "Ports are those of the document; whoever serves it may have chosen others.\n"]
    for exposure in capability.exposures:
        for each in exposure.operations:
            found = arguments(capability, exposure, each.action, each.path)
            path = re.sub(r"\{+([\w-]+)\}+", r"<\1>", each.path)
            command = f"curl -X {each.method} 'http://{exposure.address}:{exposure.port}{path}'"
            if any(one.place == "body" for one in found):
                command += " -H 'content-type: application/json' -d '{}'"
            lines += [f"## {each.method} {each.path}\n", f"{each.action.description}\n", *_arguments(found)]
            lines.append(f"```bash\n{command}\n```\n")
    return "\n".join(lines)


def _mcp_settings(capability: Capability) -> Json:
    return {
        "mcpServers": {
            each.namespace: {"type": "http", "url": f"http://{each.address}:{each.port}/{each.namespace}"}
            for each in capability.exposures
            if each.kind == "mcp"
        }
    }

"""The server's own skill: how to work with it, for agents that load skills. It is made from its tools."""

from __future__ import annotations

from collections.abc import Iterable

from perdure.model.json import encode
from perdure.server.mcp.offering import Skill, Tool

_NAME = "perdure"
_ABOUT = (
    "Operate a perdure server: send events, follow and repeat durable runs, find out why one failed or hangs. "
    "Use when asked about events, runs, functions or failures of a system that runs on perdure."
)
_WORK = """
## How to work

1. Begin with what only reads: `list_functions`, `list_runs`, `list_events`.
2. To find out why something failed, call `explain_run_failure`; then `get_run_trace` for more.
3. To find what hangs, call `list_stuck_runs`. A sleep or a wait for an event may be meant.
4. Before `rerun`, `cancel_run`, `replay_function` or `pause_function` say what it will do, and ask the user.
5. Ids come from answers. A run is known by its id, an event by its internal id, a function by its slug.

## After sending an event

`send_event` tells the event's id; `get_event_runs` which runs it started; `poll_run_status` waits for them. An event
with an `id` of its own is taken once in 24 hours, so sending it again does no harm.

## When a tool fails

The text says why. `HTTP 404` means that there is no such thing, `HTTP 409` that it has happened already, `HTTP 422`
that flow control or a pause lets no run start. What is wrong with arguments names the argument.

All tools with their arguments: [references/tools.md](references/tools.md).
"""


def own_skill(tools: Iterable[Tool]) -> Skill:
    """The skill."""
    # JSON texts are YAML, too.
    matter = f"---\nname: {_NAME}\ndescription: {encode(_ABOUT).decode()}\n---\n"
    files = {
        "SKILL.md": f"{matter}# perdure\n{_WORK}".encode(),
        "references/tools.md": _reference(tools).encode(),
    }
    return Skill(name=_NAME, front={"name": _NAME, "description": _ABOUT}, files=files)


def _reference(tools: Iterable[Tool]) -> str:
    lines = ["# Tools\n"]
    for tool in tools:
        lines += [f"## {tool.name}\n", f"{tool.description}\n"]
        required = tool.input_schema.get("required", ())
        for name, schema in tool.input_schema.get("properties", {}).items():
            needed = ", required" if name in required else ""
            lines.append(f"- `{name}` ({schema.get('type', 'any')}{needed}): {schema.get('description', '')}")
        lines.append("")
    return "\n".join(lines)

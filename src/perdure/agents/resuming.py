"""Tools that the model itself may resume: `auto_resume_suspended_tools`.

A tool that suspended in an earlier turn of the conversation asked something; when the user answers in a new message,
the model may call the tool again and hand the answer over as `resumeData`. Tools that need approval are never resumed
so: whether they may is for a person to say. What the earlier run had asked is closed then (`ports.Earlier`).
"""

from __future__ import annotations

from typing import Final

import msgspec

from perdure.agents.models import ToolSpec
from perdure.agents.run import Run
from perdure.agents.tools import Tool
from perdure.model.json import Json

ARGUMENT: Final = "resumeData"
_EXPLANATION: Final = (
    "Some tools wait for an answer of the user before they go on. When the user has answered what a tool asked, call "
    f"that tool again with the same arguments, and with the answer as {ARGUMENT}."
)


def resumable(run: Run, specs: list[ToolSpec]) -> tuple[list[ToolSpec], list[str]]:
    """The tools as the model is told of them, and what it is told about resuming them."""
    if not run.options.auto_resume_suspended_tools:
        return specs, []
    found = [_with_resume_data(run, spec) for spec in specs]
    changed = any(new is not old for new, old in zip(found, specs, strict=True))
    return found, [_EXPLANATION] if changed else []


def handed_over(run: Run, found: Tool, args: Json) -> tuple[Json, Json]:
    """The arguments without what resumes the tool, and what resumes it: None where it is not to be resumed."""
    if not _may_be_resumed(run, found) or not isinstance(args, dict) or ARGUMENT not in args:
        return args, None
    return {name: value for name, value in args.items() if name != ARGUMENT}, args[ARGUMENT]


def _may_be_resumed(run: Run, found: Tool | None) -> bool:
    if not run.options.auto_resume_suspended_tools or found is None or found.resume_schema is None:
        return False
    return not found.requires_approval and not run.options.require_tool_approval


def _with_resume_data(run: Run, spec: ToolSpec) -> ToolSpec:
    found = run.box.known(spec.name)
    if found is None or not _may_be_resumed(run, found):
        return spec
    properties = {**spec.schema.get("properties", {}), ARGUMENT: found.resume_schema}
    return msgspec.structs.replace(spec, schema={**spec.schema, "properties": properties})

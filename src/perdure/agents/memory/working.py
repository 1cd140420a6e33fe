"""Working memory: notes that the model keeps about whom it talks to, and the tool by which it does.

In Markdown the model replaces the whole text; of an object it reports what changes, and that is merged: a null takes a
key away. Invariant: a report that does not fit changes nothing, and tells the model why.
"""

from __future__ import annotations

from typing import Final

import msgspec

from perdure.agents.context import ToolContext
from perdure.agents.memory.settings import WorkingMemory
from perdure.agents.messages import Message, Part, ToolPart
from perdure.agents.storage import AgentStorage
from perdure.agents.tools import Tool
from perdure.model.json import InvalidJsonError, Json, decode, encode

TOOL: Final = "updateWorkingMemory"
DEFAULT_TEMPLATE: Final = """\
# User
- Name:
- Where they are:
- What they do:
- What they want:
- What they like and dislike:
- Dates and deadlines:
- What is still open:
"""
_HEAD: Final = "WORKING_MEMORY_SYSTEM_INSTRUCTION:"
_WRITE: Final = f"""\
{_HEAD}
You have notes about the person you talk to. They outlast this conversation.
- When you learn something that may matter later, call the tool {TOOL} in the same turn.
- Keep what is still true, correct what has changed, and leave unknown fields empty.
- Do not speak of the notes or of the tool, and do not question people only to fill them in.
"""
_READ: Final = f"{_HEAD}\nThese are notes about the person you talk to. You cannot change them.\n"
_MARKDOWN: Final = "- `memory` is the whole text of the notes, one string of Markdown in the form of the template.\n"
_OBJECT: Final = "- `memory` is an object with the fields that change; a field that is null is taken away.\n"


def template_of(working: WorkingMemory) -> dict[str, Json]:
    """What the notes look like: `{format: "markdown" | "json", content}`."""
    if working.schema is not None:
        return {"format": "json", "content": encode(working.schema).decode()}
    return {"format": "markdown", "content": working.template or DEFAULT_TEMPLATE}


def system_text(working: WorkingMemory, notes: str | None, *, read_only: bool) -> str:
    """What the model is told about its notes, and the notes."""
    if read_only:
        return f"{_READ}\n<working_memory_data>\n{notes or ''}\n</working_memory_data>"
    form = template_of(working)
    rule = _OBJECT if working.schema is not None else _MARKDOWN
    return (
        f"{_WRITE}{rule}\n<working_memory_template>\n{form['content']}\n</working_memory_template>\n\n"
        f"<working_memory_data>\n{notes or ''}\n</working_memory_data>"
    )


def update_tool(storage: AgentStorage, working: WorkingMemory, thread_id: str, resource_id: str) -> Tool:
    """The tool `updateWorkingMemory`. Reporting the same twice changes nothing more."""

    async def update(args: dict[str, Json], ctx: ToolContext) -> Json:
        del ctx
        given = args.get("memory")
        if working.schema is None:
            if not isinstance(given, str):
                return {"success": False, "message": "memory: must be one string of Markdown"}
            notes = given
        else:
            given = _parsed(given)
            if not isinstance(given, dict):
                return {"success": False, "message": "memory: must be an object with the fields that change"}
            notes = encode(merged(_parsed(await read(storage, working, thread_id, resource_id)) or {}, given)).decode()
        await write(storage, working, thread_id, resource_id, notes)
        return {"success": True}

    memory: dict[str, Json] = {"type": "string", "description": "The notes, in Markdown."}
    if working.schema is not None:
        memory = _without_required(working.schema)
    schema = {"type": "object", "properties": {"memory": memory}, "required": ["memory"]}
    return Tool(TOOL, "Keeps the notes about the person up to date.", schema, update)


async def read(storage: AgentStorage, working: WorkingMemory, thread_id: str, resource_id: str) -> str | None:
    """The notes."""
    if working.scope == "thread":
        return await storage.thread_memory(thread_id)
    return await storage.resource_memory(resource_id)


async def write(
    storage: AgentStorage, working: WorkingMemory, thread_id: str, resource_id: str, notes: str | None
) -> None:
    """Replaces the notes."""
    if working.scope == "thread":
        await storage.ensure_thread(thread_id, resource_id)
        await storage.set_thread_memory(thread_id, notes)
    else:
        await storage.set_resource_memory(resource_id, notes)


def merged(before: Json, change: Json) -> Json:
    """An object with a change in it: objects are merged, null takes away, anything else replaces.

    >>> merged({"name": "Ann", "pets": {"cat": 1, "dog": 1}}, {"pets": {"dog": None}, "city": "Rome"})
    {'name': 'Ann', 'pets': {'cat': 1}, 'city': 'Rome'}
    """
    if not isinstance(before, dict) or not isinstance(change, dict):
        return change
    kept = dict(before)
    for key, value in change.items():
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = merged(kept.get(key), value)
    return kept


def without_updates(message: Message) -> Message | None:
    """A message as it is kept: without its calls of the tool, which later turns need not see; None if none is left."""
    parts: list[Part] = [part for part in message.parts if not _is_update(part)]
    if len(parts) == len(message.parts):
        return message
    if not any(part for part in parts if getattr(part, "text", None) or isinstance(part, ToolPart)):
        return None
    return msgspec.structs.replace(message, parts=parts)


def _is_update(part: Part) -> bool:
    return isinstance(part, ToolPart) and part.tool_invocation.tool_name == TOOL


def _parsed(value: Json) -> Json:
    # Models send objects as texts now and then, and notes in Markdown may stand where an object is expected.
    if not isinstance(value, str):
        return value
    try:
        return decode(value)
    except InvalidJsonError:
        return None


def _without_required(schema: Json) -> Json:
    """The schema of a change: nothing has to be there, and everything may be taken away."""
    if not isinstance(schema, dict):
        return schema
    found = {key: value for key, value in schema.items() if key != "required"}
    if isinstance(found.get("properties"), dict):
        found["properties"] = {key: _without_required(value) for key, value in found["properties"].items()}
    return found

"""Results that the caller brings for calls of an earlier run, put where they belong.

A run that ended with calls of client tools left them without a result in its thread. The next run is given the results
as its input; here they go into the calls, so that the model sees each call once, with its result.
"""

from __future__ import annotations

import msgspec

from perdure.agents.messages import Message, ToolPart


def merge_results(history: list[Message], given: list[Message]) -> tuple[list[Message], list[Message]]:
    """The input without what found its call in the history, and the messages of the history that it went into.

    Messages of the history are changed in place. Doing it again, with what was kept, changes nothing.
    """
    calls = {
        part.tool_invocation.tool_call_id: (message, part)
        for message in history
        for part in message.parts
        if isinstance(part, ToolPart)
    }
    kept: list[Message] = []
    changed: dict[str, Message] = {}
    for message in given:
        rest = []
        for part in message.parts:
            found = calls.get(part.tool_invocation.tool_call_id) if isinstance(part, ToolPart) else None
            if found is None or not isinstance(part, ToolPart) or part.tool_invocation.state == "call":
                rest.append(part)
                continue
            earlier, call = found
            changed[earlier.id] = earlier
            if call.tool_invocation.state == "call":
                came = part.tool_invocation
                call.tool_invocation = msgspec.structs.replace(
                    call.tool_invocation, state=came.state, result=came.result, error_text=came.error_text
                )
        if len(rest) == len(message.parts):
            kept.append(message)
        elif rest:
            kept.append(msgspec.structs.replace(message, parts=rest))
    return kept, list(changed.values())

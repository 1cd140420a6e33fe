"""The answer of a tool as the protocol's result: text for every client, and structured for those that read it."""

from __future__ import annotations

import mcp_types as types
from pydantic import TypeAdapter

from perdure.model.json import Json, encode
from perdure.server.mcp.offering import Answer

_blocks: TypeAdapter[types.ContentBlock] = TypeAdapter(types.ContentBlock)


def block(content: Json) -> types.ContentBlock:
    """A text, or a block of content as the protocol has it."""
    if isinstance(content, str):
        return types.TextContent(type="text", text=content)
    return _blocks.validate_python(content)


def result(answer: Answer) -> types.CallToolResult:
    """The result of an answer. Older revisions allow objects alone as structured content."""
    if answer.content:
        return types.CallToolResult(content=[block(each) for each in answer.content], is_error=answer.failed)
    text = encode(answer.value).decode() if answer.text is None else answer.text
    content: list[types.ContentBlock] = [types.TextContent(type="text", text=text)]
    if answer.failed or answer.value is None:
        return types.CallToolResult(content=content, is_error=answer.failed)
    structured = answer.value if isinstance(answer.value, dict) else {"result": answer.value}
    return types.CallToolResult(content=content, structured_content=structured)

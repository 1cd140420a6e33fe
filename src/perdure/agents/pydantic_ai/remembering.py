"""The thread of a run: what was said before it, and what it adds.

What is recalled is recorded by the step `recall`, so a replay goes on with the same conversation; what the agent has
said is saved in the step `finish`, under ids that follow from the run's, so saving it again changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ThinkingPart, ToolCallPart, ToolReturnPart
from pydantic_core import to_jsonable_python

from perdure.agents import messages as ours
from perdure.agents.errors import AgentError
from perdure.agents.inputs import message_from_json, message_to_json
from perdure.agents.journal import Journal, StepScope
from perdure.agents.memory import Memory, MemoryScope
from perdure.agents.messages import Message, Part, ToolInvocation, ToolPart
from perdure.agents.models.events import metadata_of
from perdure.agents.models.speaking import parsed
from perdure.agents.responding import joined
from perdure.model.errors import NonRetriableError, StepError
from perdure.model.json import Json


class Thread:
    """The conversation that a run belongs to; without a scope, none."""

    def __init__(self, memory: Memory, scope: MemoryScope | None) -> None:
        self._memory = memory
        self._scope = scope

    async def recall(self, journal: Journal, said: Sequence[Message]) -> tuple[list[str], list[Message]]:
        """Texts for the system, and messages from before this run."""
        scope = self._scope
        if scope is None:
            return [], []

        async def load(_: StepScope) -> Json:
            try:
                found = await self._memory.load(scope, said)
            except AgentError as error:
                # Somebody else's thread stays somebody else's, however often it is asked for.
                raise NonRetriableError(str(error)) from error
            return {"system": found.system, "messages": [message_to_json(message) for message in found.messages]}

        try:
            plain = await journal.step("recall", load)
        except StepError:
            # What could not be read is not written to either.
            self._scope = None
            raise
        return plain["system"], [message_from_json(message) for message in plain["messages"]]

    async def save(self, messages: Sequence[Message]) -> None:
        """Keeps what was said. Inside a step."""
        if self._scope is not None:
            await self._memory.save(self._scope, messages)


def said_in(history: Sequence[ModelMessage], run_id: str, message_id: Callable[[int], str]) -> list[Message]:
    """What the agent said in the run with this id, as messages: its answers, their calls with their results."""
    results = {
        part.tool_call_id: part for message in history for part in message.parts if isinstance(part, ToolReturnPart)
    }
    said = [
        message
        for message in history
        if isinstance(message, ModelResponse) and (message.run_id or "").rpartition(".")[0] == run_id
    ]
    found: list[Message] = []
    for turn, message in enumerate(said):
        parts = [made for part in message.parts if (made := _part(part, results)) is not None]
        noted: dict[str, Json] = {"modelId": message.model_name, "provider": message.provider_name}
        at = int(message.timestamp.timestamp() * 1000)
        made_of = Message(message_id(turn), "assistant", parts, at, metadata=noted)
        joined(found, made_of, f"{message.provider_name}/{message.model_name}")
    return found


def _part(part: object, results: dict[str, ToolReturnPart]) -> Part | None:
    if isinstance(part, TextPart):
        return ours.TextPart(part.content, metadata_of(part))
    if isinstance(part, ThinkingPart):
        return ours.ReasoningPart(part.content, part.signature, metadata_of(part))
    if not isinstance(part, ToolCallPart):
        return None
    call = ToolInvocation("call", part.tool_call_id, part.tool_name, parsed(part.args))
    returned = results.get(part.tool_call_id)
    if returned is not None:
        content = to_jsonable_python(returned.content, serialize_unknown=True)
        if returned.outcome == "success":
            call.state, call.result = "result", content
        elif returned.outcome == "denied":
            call.state, call.approval = "output-denied", ours.Approval(part.tool_call_id, False, str(content))
        else:
            call.state, call.error_text = "output-error", str(content)
    return ToolPart(call, provider_metadata=metadata_of(part))

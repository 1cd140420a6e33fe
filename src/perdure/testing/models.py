"""A model for tests: it answers by a script, in this process, without pydantic-ai, and keeps what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from perdure.agents.background.told import ENDED
from perdure.agents.messages import Message, ToolPart, Usage
from perdure.agents.models.call import Answer, Call, Prompt
from perdure.agents.models.failure import ModelCallError, ModelRejectedError, ModelUnavailableError
from perdure.agents.models.speaking import Speaker
from perdure.model.json import encode
from perdure.testing.script import (
    Asked,
    Break,
    Delay,
    Fail,
    File,
    Finish,
    Piece,
    Reasoning,
    Script,
    Source,
    Spent,
    Text,
    ToolCall,
    Turn,
    shown,
    slices,
    words,
)

RETRIED = frozenset({408, 409, 425, 429})
"""The statuses below 500 after which another attempt makes sense."""


class ScriptedModel:
    """Answers by `turns`, by a function of what was asked, or by the directives of `perdure.testing.script`.

    `prompts` holds every prompt that it has seen. `sleep` (seconds) is what a pause waits by.

    >>> from perdure.agents.models import Call, Prompt
    >>> from perdure.agents.messages import Message, TextPart
    >>> model = ScriptedModel(["Hello!"])
    >>> prompt = Prompt([], [Message("m1", "user", [TextPart("Hi")], 0)])
    >>> asyncio.run(model.ask(prompt, Call("run-1", lambda chunk: None))).text
    'Hello!'
    """

    def __init__(
        self,
        turns: Sequence[Turn] | Callable[[Asked], Turn] | None = None,
        *,
        name: str = "test/scripted",
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.prompts: list[Prompt] = []
        self._name = name
        self._script = Script(turns)
        self._sleep = sleep

    @property
    def name(self) -> str:
        """`provider/model`."""
        return self._name

    @property
    def calls(self) -> int:
        """How often it was asked."""
        return len(self.prompts)

    async def ask(self, prompt: Prompt, call: Call) -> Answer:
        """Plays the next turn."""
        asked = asked_of(prompt, len(self.prompts))
        self.prompts.append(prompt)
        provider, _, model = self._name.partition("/")
        turn = sum(message.role == "assistant" for message in prompt.messages)
        speaker = Speaker(call, model=model, provider=provider, response_id=f"resp-{turn + 1}")
        return await self._play(self._pieces(asked), speaker, call)

    async def close(self) -> None:
        """Nothing."""

    def _pieces(self, asked: Asked) -> list[Piece]:
        try:
            return self._script.answer(asked)
        except IndexError as error:
            raise ModelRejectedError(f"{self._name}: {error}", code="script", model=self._name) from None

    async def _play(self, pieces: list[Piece], speaker: Speaker, call: Call) -> Answer:
        reason, spent = "", Spent()
        for piece in pieces:
            if isinstance(piece, Finish):
                reason = piece.reason
            elif isinstance(piece, Spent):
                spent = piece
            elif isinstance(piece, Fail | Break):
                speaker.end_part()
                raise self._failure(piece)
            else:
                await self._say(piece, speaker, call)
        total = spent.input_tokens + spent.output_tokens
        speaker.usage = Usage(
            spent.input_tokens, spent.output_tokens, total, spent.reasoning_tokens, spent.cached_input_tokens
        )
        called = any(isinstance(piece, ToolCall) for piece in pieces)
        return speaker.answer(reason or ("tool-calls" if called else "stop"))

    async def _say(self, piece: Piece, speaker: Speaker, call: Call) -> None:
        if isinstance(piece, Delay):
            await self._sleep(piece.ms / 1000)
        elif isinstance(piece, Text):
            for word in words(piece.text):
                if piece.pause:
                    await self._sleep(piece.pause / 1000)
                speaker.text(word)
                await call.drained()
            speaker.end_part()
        elif isinstance(piece, Reasoning):
            for word in words(piece.text):
                speaker.reasoning(word)
                await call.drained()
            speaker.end_part(signature=piece.signature)
        elif isinstance(piece, ToolCall):
            call_id = speaker.tool_input_start(piece.id or piece.name, piece.name)
            text = piece.args if isinstance(piece.args, str) else encode(piece.args).decode()
            for part in slices(text):
                speaker.tool_input(call_id, piece.name, part)
            speaker.tool_call(call_id, piece.name, text)
        elif isinstance(piece, Source):
            speaker.source(url=piece.url, title=piece.title)
        elif isinstance(piece, File):
            speaker.file(piece.data, piece.mime_type)

    def _failure(self, piece: Fail | Break) -> ModelCallError:
        if isinstance(piece, Break):
            return ModelUnavailableError("the connection broke off", code="connection", model=self._name)
        if piece.status >= 500 or piece.status in RETRIED:
            code = "rate_limited" if piece.status == 429 else "server_error"
            return ModelUnavailableError(
                piece.message, piece.retry_after or 0, code=code, model=self._name, status=piece.status
            )
        return ModelRejectedError(piece.message, code="rejected", model=self._name, status=piece.status)


def asked_of(prompt: Prompt, request: int) -> Asked:
    """A prompt as a script sees it."""
    asked = Asked(
        [{"role": "system", "text": text} for text in prompt.system],
        request=request,
        tools=[tool.name for tool in prompt.tools],
        schema=prompt.output.schema if prompt.output else None,
    )
    for message in prompt.messages:
        _take(asked, message)
    return asked


def _take(asked: Asked, message: Message) -> None:
    if message.role == "user" and message.text.startswith(ENDED):
        # What came of background tasks stands where their calls are: what the user has said counts.
        return
    if message.role in ("user", "signal"):
        asked.results.clear()
    if message.role != "tool":
        role = "user" if message.role == "signal" else message.role
        asked.messages += [{"role": role, "text": text} for text in message.step_texts]
    for part in message.parts:
        if isinstance(part, ToolPart):
            found = part.tool_invocation
            asked.calls += message.role == "assistant"
            if found.state == "result":
                asked.results.append(shown(_seen(part)))
            elif found.state != "call":
                reason = found.approval.reason if found.approval else None
                said = found.error_text or reason or "Tool call was not approved by the user"
                asked.results.append(shown(said, failed=found.state == "output-error"))


def _seen(part: ToolPart) -> object:
    for own in (part.provider_metadata or {}).values():
        if isinstance(own, dict) and isinstance(own.get("modelOutput"), dict):
            return own["modelOutput"].get("value")
    return part.tool_invocation.result

"""Messages as pydantic-ai's model layer has them.

Importing this loads pydantic-ai; only `models/asking.py` does so, when a model is asked.

A stored message of the assistant holds several turns of the model, with the results of its tools between them; here
they become what providers expect: a response, the results of its calls, the next response.

Invariants: each call of a tool is followed by exactly one result, whatever the history lacks; a conversation never
begins with the assistant; what a provider needs back of its own (ids, signatures) goes only to that provider.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    DocumentUrl,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    NativeToolCallPart,
    NativeToolReturnPart,
    SystemPromptPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
    VideoUrl,
)
from pydantic_ai.messages import FilePart as ModelFilePart
from pydantic_ai.messages import TextPart as ModelTextPart

from perdure.agents.messages import (
    FilePart,
    Message,
    MessageError,
    Part,
    ReasoningPart,
    StepStartPart,
    TextPart,
    ToolInvocation,
    ToolPart,
)
from perdure.model.json import Json, encode

DENIED: Final = "Tool call was not approved by the user"
"""What a model is told of a call that was declined without a reason."""
UNANSWERED: Final = "This tool call has no result: it was not carried out."
"""What a model is told of a call whose result the history does not have."""
OPENING: Final = "."
"""Said by the user where a conversation would begin with the assistant, which providers refuse."""

_Outcome: TypeAlias = Literal["success", "failed", "denied", "interrupted"]


def model_messages(system: Sequence[str], messages: Iterable[Message]) -> list[ModelMessage]:
    """System texts and messages, in the order in which the model reads them.

    Raises `MessageError` for a file that cannot be read.
    """
    history = _History(list(messages))
    for text in system:
        if text:
            history.add(SystemPromptPart(text))
    for index, message in enumerate(history.messages):
        if message.role == "assistant":
            for part in message.parts:
                history.answered(part)
            history.end_turn()
        elif message.role == "tool":
            history.results(message)
        elif message.role == "system":
            history.add(SystemPromptPart(message.text))
        else:
            history.ask(message, f"messages[{index}]")
    return history.whole()


class _History:
    """Puts requests and responses in turn."""

    def __init__(self, messages: list[Message]) -> None:
        self.messages = messages
        self._out: list[ModelMessage] = []
        self._request: list[ModelRequestPart] = []
        self._response: list[ModelResponsePart] = []
        self._returns: list[ToolReturnPart] = []
        self._provider: str | None = None
        # A result may have come with a message of its own, after the one with the call.
        self._later = {
            part.tool_invocation.tool_call_id: part.tool_invocation
            for message in messages
            if message.role == "tool"
            for part in message.parts
            if isinstance(part, ToolPart) and part.tool_invocation.state != "call"
        }
        self._settled: set[str] = set()
        self._spoken = False

    def add(self, part: ModelRequestPart) -> None:
        self._request.append(part)

    def ask(self, message: Message, where: str) -> None:
        content = list(_user_content(message, where))
        if not content:
            return
        self._spoken = True
        only = content[0] if len(content) == 1 else None
        said = only if isinstance(only, str) else content
        self.add(UserPromptPart(said, timestamp=datetime.fromtimestamp(message.created_at / 1000, UTC)))

    def answered(self, part: Part) -> None:
        """The next part of what the assistant said. Turns are parted by a `step-start`, or by a text after calls."""
        if isinstance(part, StepStartPart):
            self.end_turn()
            return
        if isinstance(part, ToolPart):
            self._call(part)
            return
        if self._returns and isinstance(part, TextPart | ReasoningPart | FilePart):
            self.end_turn()
        made = _response_part(part)
        if made is not None:
            self._response.append(made)

    def results(self, message: Message) -> None:
        """Results whose call this history does not have become text: without their call no provider takes them."""
        for part in message.parts:
            if isinstance(part, ToolPart) and part.tool_invocation.tool_call_id not in self._settled:
                found = part.tool_invocation
                self.add(UserPromptPart(f"Result of the tool {found.tool_name}: {_text(_outcome(found)[0])}"))
                self._spoken = True

    def end_turn(self) -> None:
        if not self._response:
            return
        if not self._spoken and not self._out:
            self.add(UserPromptPart(OPENING))
        self._spoken = True
        self._flush()
        self._out.append(ModelResponse(parts=self._response, provider_name=self._provider))
        self._request = [*self._returns]
        self._response, self._returns, self._provider = [], [], None

    def whole(self) -> list[ModelMessage]:
        self._flush()
        return self._out

    def _call(self, part: ToolPart) -> None:
        invocation = part.tool_invocation
        call_id, name = invocation.tool_call_id, invocation.tool_name
        provider, id, details = _provider_of(part.provider_metadata)
        args = invocation.args if isinstance(invocation.args, dict | str) else {}
        if part.provider_executed:
            if provider is not None:
                self._provider = provider
                self._response.append(
                    NativeToolCallPart(name, args, call_id, provider_name=provider, id=id, provider_details=details)
                )
                if invocation.state == "result":
                    self._response.append(
                        NativeToolReturnPart(name, invocation.result, call_id, provider_name=provider)
                    )
            return
        if any(returned.tool_call_id == call_id for returned in self._returns):
            # The same call twice in one turn: of two with one id no provider could tell which result is whose.
            return
        self._response.append(
            ToolCallPart(name, args, call_id, provider_name=provider, id=id, provider_details=details)
        )
        self._settled.add(call_id)
        settled = invocation if invocation.state != "call" else self._later.get(call_id, invocation)
        content, outcome = _outcome(settled, _model_output(part))
        self._returns.append(ToolReturnPart(name, content, call_id, outcome=outcome))

    def _flush(self) -> None:
        if self._request:
            self._out.append(ModelRequest(parts=self._request))
            self._request = []


def _response_part(part: Part) -> ModelResponsePart | None:
    if isinstance(part, TextPart):
        if not part.text:
            return None
        provider, id, details = _provider_of(part.provider_metadata)
        return ModelTextPart(part.text, id=id, provider_name=provider, provider_details=details)
    if isinstance(part, ReasoningPart):
        provider, id, details = _provider_of(part.provider_metadata)
        if provider is None and not part.text:
            return None
        signature = part.signature if provider is not None else None
        return ThinkingPart(part.text, id=id, signature=signature, provider_name=provider, provider_details=details)
    if isinstance(part, FilePart):
        content = _binary(part, "file")
        return ModelFilePart(content) if content is not None else None
    # Sources, and parts of kinds that are not known, are for readers.
    return None


def _provider_of(metadata: dict[str, Json] | None) -> tuple[str | None, str | None, dict[str, Json] | None]:
    """Which provider made a part, its id there, and what else that provider wants back (`provider_metadata`)."""
    for provider, found in (metadata or {}).items():
        if isinstance(found, dict) and "perdure" in found:
            own = found["perdure"] if isinstance(found["perdure"], dict) else {}
            return provider, own.get("id"), own.get("details")
    return None, None, None


def _model_output(part: ToolPart) -> Json:
    """What the model is to see instead of the result, where whoever made the result has said so."""
    for found in (part.provider_metadata or {}).values():
        if isinstance(found, dict) and isinstance(found.get("modelOutput"), dict):
            return found["modelOutput"].get("value")
    return None


def _outcome(invocation: ToolInvocation, shown: Json = None) -> tuple[Json, _Outcome]:
    if invocation.state == "result":
        return (invocation.result if shown is None else shown), "success"
    if invocation.state == "output-error":
        return invocation.error_text or "The tool failed", "failed"
    if invocation.state == "output-denied":
        return (invocation.approval and invocation.approval.reason) or DENIED, "denied"
    return UNANSWERED, "interrupted"


def _user_content(message: Message, where: str) -> Iterator[UserContent]:
    for index, part in enumerate(message.parts):
        if isinstance(part, TextPart):
            if part.text:
                yield part.text
        elif isinstance(part, FilePart):
            yield _file(part, f"{where}.parts[{index}]")


def _file(part: FilePart, where: str) -> UserContent:
    content = _binary(part, where)
    if content is not None:
        return content
    kind = part.mime_type.partition("/")[0]
    url = {"image": ImageUrl, "audio": AudioUrl, "video": VideoUrl}.get(kind, DocumentUrl)
    said: UserContent = url(part.data, media_type=part.mime_type)
    return said


def _binary(part: FilePart, where: str) -> BinaryContent | None:
    """The bytes of a file that brings them along; None for one that is at a URL."""
    data, mime_type = part.data, part.mime_type
    if data.startswith(("http://", "https://", "gs://", "s3://")):
        return None
    if data.startswith("data:"):
        head, comma, data = data[5:].partition(",")
        if not comma or not head.endswith(";base64"):
            raise MessageError(f"{where}.data: a data URL must be base64-encoded (data:<type>;base64,<data>)")
        mime_type = head.removesuffix(";base64") or mime_type
    try:
        content = b64decode(data, validate=True)
    except (Base64Error, ValueError) as error:
        raise MessageError(f"{where}.data: must be a URL, a data URL or base64: {error}") from error
    return BinaryContent.narrow_type(BinaryContent(content, media_type=mime_type))


def _text(value: Json) -> str:
    return value if isinstance(value, str) else encode(value).decode()

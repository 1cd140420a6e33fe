"""The speaker: from the pieces of an answer, the chunks of the stream and the parts of the message, in one go.

Whoever adapts a model tells the speaker what comes, in order; so chunks and recorded parts cannot differ.

Invariants: `response-metadata` is the first chunk; a text or a thought is opened before its first delta and closed
before anything else begins; a tool call's id is given once and is new to the run.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from perdure.agents.chunks import Chunk, chunk
from perdure.agents.messages import (
    FilePart,
    Part,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolInvocation,
    ToolPart,
    Usage,
)
from perdure.agents.models.call import Answer, Call
from perdure.model.json import InvalidJsonError, Json, decode


class Speaker:
    """Says an answer to `call`, and keeps it.

    >>> from perdure.agents.models.call import Call
    >>> said = []
    >>> speaker = Speaker(Call("run-1", said.append), model="gpt-5.5", provider="openai")
    >>> speaker.text("Hel")
    >>> speaker.text("lo")
    >>> speaker.answer("stop").text
    'Hello'
    >>> [chunk.type for chunk in said]
    ['response-metadata', 'text-start', 'text-delta', 'text-delta', 'text-end']
    """

    def __init__(self, call: Call, *, model: str, provider: str, response_id: str | None = None) -> None:
        self.model = model
        self.provider = provider
        self.response_id = response_id
        self.timestamp = call.now()
        self.warnings: list[Json] = []
        self.usage = Usage()
        self.raw_usage: dict[str, Json] | None = None
        self.cost: float | None = None
        self.spoken = False
        self._call = call
        self._parts: list[Part] = []
        self._open: TextPart | ReasoningPart | None = None
        self._pieces: list[str] = []
        self._id = ""
        self._counts = {"text": 0, "reasoning": 0, "src": 0}
        self._calls = _CallIds(call.used_ids)

    def begin(self) -> None:
        """Says which model answers; done by the first piece where nobody does it before."""
        if not self.spoken:
            self.spoken = True
            self._say("response-metadata", id=self.response_id, modelId=self.model, timestamp=_iso(self.timestamp))

    def text(self, delta: str) -> None:
        """A piece of text: goes on with the open text, or opens one."""
        if not isinstance(self._open, TextPart):
            self._open_part(TextPart(""), "text")
        if delta:
            self._say("text-delta", id=self._id, text=delta)
            self._pieces.append(delta)

    def reasoning(self, delta: str, metadata: dict[str, Json] | None = None) -> None:
        """A piece of thought."""
        if not isinstance(self._open, ReasoningPart):
            self._open_part(ReasoningPart("", provider_metadata=metadata), "reasoning")
        if delta:
            self._say("reasoning-delta", id=self._id, text=delta)
            self._pieces.append(delta)

    def end_part(self, *, signature: str | None = None, metadata: dict[str, Json] | None = None) -> None:
        """Closes the open text or thought. `signature` is the provider's proof of a thought."""
        part, self._open = self._open, None
        if part is None:
            return
        part.text = "".join(self._pieces)
        self._pieces.clear()
        if metadata is not None:
            part.provider_metadata = metadata
        if isinstance(part, TextPart):
            self._say("text-end", type="text-end", id=self._id)
            if not part.text and part.provider_metadata is None:
                self._parts.remove(part)
            return
        part.signature = signature
        if signature:
            self._say("reasoning-signature", id=self._id, signature=signature)
        self._say("reasoning-end", id=self._id)

    def tool_input_start(self, key: str, name: str) -> str:
        """A call begins to come; `key` is the provider's id. Returns the id that the run knows it by."""
        self.end_part()
        self.begin()
        call_id = self._calls.open(key)
        self._say("tool-call-input-streaming-start", toolCallId=call_id, toolName=name)
        return call_id

    def tool_input(self, call_id: str, name: str, delta: str) -> None:
        """A piece of a call's arguments, as JSON text."""
        if delta:
            self._say("tool-call-delta", argsTextDelta=delta, toolCallId=call_id, toolName=name)

    def tool_call(
        self, call_id: str, name: str, args: Json, *, metadata: dict[str, Json] | None = None, by_provider: bool = False
    ) -> None:
        """A call is complete. Arguments that are no JSON stay the text that they are, for whoever checks them."""
        self._say("tool-call-input-streaming-end", toolCallId=call_id)
        args = parsed(args)
        self._say(
            "tool-call",
            toolCallId=call_id,
            toolName=name,
            args=args,
            providerExecuted=by_provider or None,
            providerMetadata=metadata,
        )
        invocation = ToolInvocation("call", call_id, name, args)
        self._parts.append(ToolPart(invocation, provider_executed=by_provider, provider_metadata=metadata))

    def provider_result(self, key: str, name: str, result: Json) -> None:
        """What came of a call that the provider carried out itself."""
        self.end_part()
        call_id = self._calls.known(key)
        for part in self._parts:
            if isinstance(part, ToolPart) and part.tool_invocation.tool_call_id == call_id:
                part.tool_invocation.state = "result"
                part.tool_invocation.result = result
                args = part.tool_invocation.args
                break
        else:
            args = None
        self._say("tool-result", toolCallId=call_id, toolName=name, args=args, result=result, providerExecuted=True)

    def source(self, *, url: str | None = None, title: str | None = None, id: str | None = None) -> None:
        """Where the model says that it has something from: a page (with a URL) or a document."""
        self.end_part()
        self.begin()
        self._counts["src"] += 1
        said = {
            "id": id or f"src-{self._counts['src']}",
            "sourceType": "document" if url is None else "url",
            "url": url,
            "title": title,
        }
        source = {key: value for key, value in said.items() if value is not None}
        self._say("source", **source)
        self._parts.append(SourcePart(source))

    def file(self, base64: str, mime_type: str) -> None:
        """A file that the model made."""
        self.end_part()
        self.begin()
        self._say("file", data=base64, base64=base64, mimeType=mime_type)
        self._parts.append(FilePart(base64, mime_type))

    def raw(self, value: Json) -> None:
        """Something as the model's layer gave it, for who asked for that."""
        self._call.say(Chunk({"type": "raw", "runId": self._call.run_id, "from": "AGENT", "payload": value}))

    def answer(self, finish_reason: str) -> Answer:
        """Closes what is open, and gives the whole."""
        self.end_part()
        self.begin()
        return Answer(
            parts=self._parts,
            finish_reason=finish_reason,
            usage=self.usage,
            model=self.model,
            provider=self.provider,
            response_id=self.response_id,
            timestamp=self.timestamp,
            cost=self.cost,
            warnings=self.warnings,
            raw_usage=self.raw_usage,
        )

    def _open_part(self, part: TextPart | ReasoningPart, kind: str) -> None:
        self.end_part()
        self.begin()
        self._id = f"{kind}-{self._counts[kind]}"
        self._counts[kind] += 1
        self._open = part
        self._parts.append(part)
        self._say(f"{kind}-start", id=self._id, providerMetadata=part.provider_metadata)

    def _say(self, kind: str, **payload: Json) -> None:
        self._call.say(chunk(kind, self._call.run_id, **payload))


class _CallIds:
    """The ids of tool calls: unique in the run, whatever the provider gives."""

    def __init__(self, used: Collection[str]) -> None:
        self._used = set(used)
        self._by_key: dict[str, str] = {}

    def open(self, key: str) -> str:
        call_id, count = key, 1
        while call_id in self._used:
            count += 1
            call_id = f"{key}~{count}"
        self._used.add(call_id)
        self._by_key[key] = call_id
        return call_id

    def known(self, key: str) -> str:
        return self._by_key.get(key, key)


def parsed(args: Json) -> Json:
    """Arguments as JSON; an empty text is no arguments, and a text that is no object stays a text.

    >>> parsed('{"a": 1}'), parsed(""), parsed("{oops")
    ({'a': 1}, {}, '{oops')
    """
    if args is None or args == "":
        return {}
    if not isinstance(args, str):
        return args
    try:
        value = decode(args)
    except InvalidJsonError:
        return args
    return value if isinstance(value, dict) else args


def _iso(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""From the events of pydantic-ai's model layer to a speaker. Importing this loads pydantic-ai.

The first piece of a part comes with the event that begins it, and a call's arguments are complete in the one that ends
it. Events of kinds that this version does not know are passed over: the layer grows, and an answer must not fail by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic_ai.messages import (
    Citation,
    DocumentCitationSource,
    FilePart,
    ModelResponsePart,
    ModelResponseStreamEvent,
    NativeToolCallPart,
    NativeToolReturnPart,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
    WebCitationSource,
)
from pydantic_core import to_jsonable_python

from perdure.agents.models.speaking import Speaker
from perdure.model.json import Json, encode

OUTPUT_TOOL: Final = "final_result"
"""The tool by whose arguments a structured answer comes, where the prompt asks for that."""


class Events:
    """Takes the events of one response."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker
        self._calls: dict[int, _Input] = {}
        self._ended: set[int] = set()
        self._cited: set[tuple[str | None, str | None]] = set()

    def take(self, event: ModelResponseStreamEvent) -> None:
        """Says what an event brings."""
        if isinstance(event, PartStartEvent):
            self._start(event.index, event.part)
        elif isinstance(event, PartDeltaEvent):
            self._delta(event)
        elif isinstance(event, PartEndEvent):
            self._end(event.index, event.part)

    def _start(self, index: int, part: ModelResponsePart) -> None:
        speaker = self._speaker
        if isinstance(part, TextPart):
            speaker.text(part.content)
        elif isinstance(part, ThinkingPart):
            speaker.reasoning(part.content)
        elif isinstance(part, ToolCallPart) and part.tool_name == OUTPUT_TOOL:
            speaker.text(_args_text(part.args))
        elif isinstance(part, ToolCallPart | NativeToolCallPart):
            found = _Input(speaker.tool_input_start(part.tool_call_id, part.tool_name), part.tool_name)
            self._calls[index] = found
            self._input(found, part.args)
        elif isinstance(part, NativeToolReturnPart):
            speaker.provider_result(part.tool_call_id, part.tool_name, _plain(part.content))
        elif isinstance(part, FilePart):
            speaker.file(part.content.base64, part.content.media_type)

    def _delta(self, event: PartDeltaEvent) -> None:
        delta = event.delta
        if isinstance(delta, TextPartDelta):
            if delta.content_delta:
                self._speaker.text(delta.content_delta)
            if event.index in self._ended:
                # Some providers name their sources at the very end.
                self._cite(delta.citations_delta)
        elif isinstance(delta, ThinkingPartDelta):
            if delta.content_delta:
                self._speaker.reasoning(delta.content_delta)
        elif isinstance(delta, ToolCallPartDelta):
            found = self._calls.get(event.index)
            if found is not None:
                self._input(found, delta.args_delta)
            elif isinstance(delta.args_delta, str):
                self._speaker.text(delta.args_delta)

    def _input(self, found: _Input, args: object) -> None:
        # Arguments that come as an object may still change; they are told as text once they are complete.
        if isinstance(args, str) and args:
            found.told = True
            self._speaker.tool_input(found.call_id, found.name, args)

    def _end(self, index: int, part: ModelResponsePart) -> None:
        speaker = self._speaker
        if isinstance(part, TextPart):
            speaker.end_part(metadata=metadata_of(part))
            self._ended.add(index)
            self._cite(part.citations)
        elif isinstance(part, ThinkingPart):
            speaker.end_part(signature=part.signature, metadata=metadata_of(part))
        elif isinstance(part, ToolCallPart | NativeToolCallPart):
            found = self._calls.pop(index, None)
            if found is None:
                speaker.end_part()
                return
            if not found.told and part.args:
                speaker.tool_input(found.call_id, part.tool_name, _args_text(part.args))
            native = isinstance(part, NativeToolCallPart)
            speaker.tool_call(
                found.call_id, part.tool_name, _plain(part.args), metadata=metadata_of(part), by_provider=native
            )

    def _cite(self, citations: Sequence[Citation] | None) -> None:
        for citation in citations or ():
            for source in citation.sources:
                url = source.url if isinstance(source, WebCitationSource) else None
                id = source.document_id if isinstance(source, DocumentCitationSource) else None
                if (url or id, source.title) not in self._cited:
                    self._cited.add((url or id, source.title))
                    self._speaker.source(url=url, title=source.title, id=id)


class _Input:
    """Arguments of a call on their way."""

    __slots__ = ("call_id", "name", "told")

    def __init__(self, call_id: str, name: str) -> None:
        self.call_id = call_id
        self.name = name
        self.told = False


def metadata_of(part: TextPart | ThinkingPart | ToolCallPart | NativeToolCallPart) -> dict[str, Json] | None:
    """What has to go back to the provider with a part; `prompt.py` reads it."""
    proof = part.signature if isinstance(part, ThinkingPart) else None
    native = isinstance(part, NativeToolCallPart)
    if part.provider_name is None or not (part.id or part.provider_details or proof or native):
        return None
    own = {"id": part.id, "details": _plain(part.provider_details)}
    return {part.provider_name: {"perdure": {key: value for key, value in own.items() if value}}}


def _args_text(args: object) -> str:
    return args if isinstance(args, str) else encode(_plain(args)).decode() if args else ""


def _plain(value: object) -> Json:
    return to_jsonable_python(value, bytes_mode="base64", serialize_unknown=True)

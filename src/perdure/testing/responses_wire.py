"""An answer in OpenAI's Responses protocol: the items of its output, and the events that tell of them.

Every item goes through the same events: added, its deltas, done. `sequence_number` counts the events of a response.
"""

from __future__ import annotations

from collections.abc import Iterator

from perdure.model.json import Json
from perdure.testing.openai_wire import CREATED, Said, args_text
from perdure.testing.script import Piece, Reasoning, Source, Spent, Text, ToolCall, slices, words


class ResponseStream:
    """The events of one response, in order."""

    def __init__(self, model: str, id: str) -> None:
        self._model = model
        self._id = id
        self._sequence = 0
        self._output: list[dict[str, Json]] = []
        self._said = Said()
        self._cited: list[dict[str, Json]] = []

    def start(self) -> Iterator[dict[str, Json]]:
        """Before anything is said."""
        yield self._event("response.created", response=self.whole("in_progress"))
        yield self._event("response.in_progress", response=self.whole("in_progress"))

    def piece(self, piece: Piece) -> Iterator[dict[str, Json]]:
        """The events of a piece."""
        self._said.take(piece)
        if isinstance(piece, Text):
            yield from self._text(piece.text)
        elif isinstance(piece, Reasoning):
            yield from self._reasoning(piece.text)
        elif isinstance(piece, ToolCall):
            yield from self._call(piece)
        elif isinstance(piece, Source):
            cited = {"url": piece.url, "title": piece.title, "start_index": 0, "end_index": 1}
            self._cited.append({"type": "url_citation", **cited})

    def end(self) -> Iterator[dict[str, Json]]:
        """The last event, with the whole."""
        cut = self._said.finish_reason == "length"
        kind = "response.incomplete" if cut else "response.completed"
        yield self._event(kind, response=self.whole("incomplete" if cut else "completed"))

    def whole(self, status: str) -> dict[str, Json]:
        """The response itself, as it is when it is not streamed."""
        over = status != "in_progress"
        return {
            "id": self._id,
            "object": "response",
            "created_at": CREATED,
            "model": self._model,
            "status": status,
            "output": list(self._output) if over else [],
            "usage": _usage(self._said.spent) if over else None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "error": None,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "metadata": {},
            "instructions": None,
        }

    def _text(self, text: str) -> Iterator[dict[str, Json]]:
        index, id = len(self._output), f"msg_{len(self._output)}"
        item = {"type": "message", "id": id, "role": "assistant", "status": "in_progress", "content": []}
        part = {"type": "output_text", "text": "", "annotations": []}
        where = {"item_id": id, "output_index": index, "content_index": 0}
        yield self._event("response.output_item.added", output_index=index, item=item)
        yield self._event("response.content_part.added", **where, part=part)
        for word in words(text):
            yield self._event("response.output_text.delta", **where, delta=word, logprobs=[])
        cited, self._cited = self._cited, []
        for number, one in enumerate(cited):
            one["end_index"] = max(len(text), 1)
            fields = {**where, "annotation_index": number, "annotation": one}
            yield self._event("response.output_text.annotation.added", **fields)
        yield self._event("response.output_text.done", **where, text=text, logprobs=[])
        done = {**part, "text": text, "annotations": cited}
        yield self._event("response.content_part.done", **where, part=done)
        yield self._done(index, {**item, "status": "completed", "content": [done]})

    def _reasoning(self, text: str) -> Iterator[dict[str, Json]]:
        index, id = len(self._output), f"rs_{len(self._output)}"
        item = {"type": "reasoning", "id": id, "summary": []}
        where = {"item_id": id, "output_index": index, "summary_index": 0}
        part = {"type": "summary_text", "text": ""}
        yield self._event("response.output_item.added", output_index=index, item=item)
        yield self._event("response.reasoning_summary_part.added", **where, part=part)
        for word in words(text):
            yield self._event("response.reasoning_summary_text.delta", **where, delta=word)
        yield self._event("response.reasoning_summary_text.done", **where, text=text)
        done = {**part, "text": text}
        yield self._event("response.reasoning_summary_part.done", **where, part=done)
        yield self._done(index, {**item, "summary": [done]})

    def _call(self, call: ToolCall) -> Iterator[dict[str, Json]]:
        index, id = len(self._output), f"fc_{len(self._output)}"
        item = {
            "type": "function_call",
            "id": id,
            "call_id": call.id,
            "name": call.name,
            "arguments": "",
            "status": "in_progress",
        }
        where = {"item_id": id, "output_index": index}
        yield self._event("response.output_item.added", output_index=index, item=item)
        for text in slices(args_text(call)):
            yield self._event("response.function_call_arguments.delta", **where, delta=text)
        yield self._event("response.function_call_arguments.done", **where, arguments=args_text(call), name=call.name)
        yield self._done(index, {**item, "arguments": args_text(call), "status": "completed"})

    def _done(self, index: int, item: dict[str, Json]) -> dict[str, Json]:
        self._output.append(item)
        return self._event("response.output_item.done", output_index=index, item=item)

    def _event(self, kind: str, **fields: Json) -> dict[str, Json]:
        self._sequence += 1
        return {"type": kind, "sequence_number": self._sequence - 1, **fields}


def _usage(spent: Spent) -> dict[str, Json]:
    return {
        "input_tokens": spent.input_tokens,
        "output_tokens": spent.output_tokens,
        "total_tokens": spent.input_tokens + spent.output_tokens,
        "input_tokens_details": {"cached_tokens": spent.cached_input_tokens},
        "output_tokens_details": {"reasoning_tokens": spent.reasoning_tokens},
    }


def sources_first(pieces: list[Piece]) -> list[Piece]:
    """Each source before the text that it belongs to: here it is a note on that text, which is closed with it."""
    ordered: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, Source):
            place = next((at for at in range(len(ordered) - 1, -1, -1) if isinstance(ordered[at], Text)), len(ordered))
            ordered.insert(place, piece)
        else:
            ordered.append(piece)
    return ordered

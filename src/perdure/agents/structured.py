"""Structured output: objects made of the text of a model, while it comes and when it is complete.

While text comes, `ObjectStream` closes what is open and reads what is there, so that a reader sees the object grow.

Invariants: a partial object is told only when it changed; the final one has been checked against the schema.
"""

from __future__ import annotations

import re

from perdure.agents.models import OutputSpec
from perdure.agents.options import StructuredOutput
from perdure.agents.schemas import Shape, ShapeError
from perdure.model.errors import NonRetriableError
from perdure.model.json import InvalidJsonError, Json, decode

_OPENED = {"{": "}", "[": "]"}


class StructuredOutputError(NonRetriableError):
    """An answer is not the object that was asked for; `code` is the protocol's."""

    code = "STRUCTURED_OUTPUT_SCHEMA_VALIDATION_FAILED"


class ObjectStream:
    """Reads the beginnings of a JSON text.

    >>> stream = ObjectStream()
    >>> stream.feed('{"city": "Par'), stream.feed('is", "sights": ["Lou'), stream.feed('vre"]}')
    ({'city': 'Par'}, {'city': 'Paris', 'sights': ['Lou']}, {'city': 'Paris', 'sights': ['Louvre']})
    """

    def __init__(self) -> None:
        self._text = ""
        self._closers: list[str] = []
        self._in_string = False
        self._escaped = False
        self._last: Json = None
        self._told_at = 0
        # Where the text may be cut so that it can be closed: after a complete value.
        self._safe = 0
        self._safe_closers: list[str] = []

    def feed(self, piece: str) -> Json:
        """The object so far, where this piece changed it; None where it did not."""
        if not self._text:
            piece = piece.lstrip()
            piece = piece[piece.find("{") :] if piece.startswith("```") and "{" in piece else piece
        start = len(self._text)
        self._text += piece
        for place, character in enumerate(piece, start):
            self._scan(place, character)
        found = self._read()
        if found is None or found == self._last:
            return None
        self._last = found
        return found

    def _scan(self, place: int, character: str) -> None:
        if self._in_string:
            if self._escaped:
                self._escaped = False
            elif character == "\\":
                self._escaped = True
            elif character == '"':
                self._in_string = False
        elif character == '"':
            self._in_string = True
        elif character in _OPENED:
            self._closers.append(_OPENED[character])
            self._mark(place + 1)
        elif character in "}]":
            if self._closers:
                self._closers.pop()
            self._mark(place + 1)
        elif character == ",":
            self._mark(place)

    def _mark(self, place: int) -> None:
        self._safe, self._safe_closers = place, list(self._closers)

    def _read(self) -> Json:
        tail = '"' if self._in_string and not self._escaped else ""
        found = _decoded(self._text + tail, self._closers)
        if found is None and self._safe > self._told_at:
            # The end cannot be read yet. What stands before it can; unless more than that has been told already.
            found = _decoded(self._text[: self._safe], self._safe_closers)
        if found is not None:
            self._told_at = len(self._text)
        return found


def _decoded(text: str, closers: list[str]) -> Json:
    try:
        found = decode(text + "".join(reversed(closers)))
    except InvalidJsonError:
        return None
    return found if isinstance(found, dict | list) else None


def output_spec(wanted: StructuredOutput) -> OutputSpec:
    """What the model is told of the object."""
    return OutputSpec(wanted.schema, description=wanted.instructions, mode=wanted.mode)


def read_object(text: str, wanted: StructuredOutput) -> Json:
    """The object that a text is. Raises `StructuredOutputError`.

    >>> read_object('```json\\n{"n": 1}\\n```', StructuredOutput({"type": "object"}))
    {'n': 1}
    """
    bare = text.strip()
    if bare.startswith("```"):
        bare = bare.partition("\n")[2].rsplit("```", 1)[0]
    try:
        found = decode(bare)
    except InvalidJsonError as error:
        raise StructuredOutputError(f"Structured output validation failed: the answer is no JSON: {error}") from error
    try:
        Shape(wanted.schema).read(found)
    except ShapeError as error:
        listed = "\n".join(f"- {fault.path}: {_said(fault.message)}" for fault in error.faults)
        raise StructuredOutputError(f"Structured output validation failed: {listed}") from error
    return found


def _said(fault: str) -> str:
    """A fault in the words that clients of structured output know.

    >>> _said("'age' is a required property"), _said("5 is not of type 'string'")
    ("must have required property 'age'", 'must be string')
    """
    told = re.sub(r"^('[^']+') is a required property$", r"must have required property \1", fault)
    return re.sub(r"^.* is not of type '(\w+)'$", r"must be \1", told, flags=re.DOTALL)

"""What the messages of connect are declared with: Structs whose fields carry their protobuf numbers."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from perdure.model.errors import PerdureError

M = TypeVar("M", bound="Record")


class MessageError(PerdureError):
    """Bytes that are not the message that they should be."""


class Record(msgspec.Struct):
    """A message: every field is annotated with its number."""

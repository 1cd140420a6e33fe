"""The one JSON codec.

Everything that crosses the process border (HTTP bodies, stored payloads, command line data) is decoded and
encoded here, so that another library could take msgspec's place in one file. Decoding turns every malformed
input, too deep nesting included, into one error type; encoding is for values known to be plain JSON (what user
code returns goes through `perdure.model.values` instead).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

Json: TypeAlias = Any
"""A decoded JSON value. The only place where `Any` enters the code base."""

_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()
_elements = msgspec.json.Decoder(list[msgspec.Raw])


class InvalidJsonError(ValueError):
    """The bytes are not one JSON value (RFC 8259)."""


def decode(data: bytes | str) -> Json:
    """Decodes one JSON value; raises `InvalidJsonError` for anything else.

    >>> decode(b'{"a": [1, 2.5, null]}')
    {'a': [1, 2.5, None]}
    """
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidJsonError(str(error)) from error
    except RecursionError as error:
        raise InvalidJsonError("JSON is nested too deeply") from error


def element_sizes(data: bytes) -> list[int]:
    """The sizes in bytes of the elements of a JSON array, as they were sent; raises `InvalidJsonError`.

    >>> element_sizes(b'[{"a": 1}, 22]')
    [8, 2]
    """
    try:
        return [len(memoryview(element)) for element in _elements.decode(data)]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidJsonError(str(error)) from error
    except RecursionError as error:
        raise InvalidJsonError("JSON is nested too deeply") from error


def encode(value: Json) -> bytes:
    """Encodes a plain JSON value without white space.

    >>> encode({"a": [1, None]})
    b'{"a":[1,null]}'
    """
    return _encoder.encode(value)

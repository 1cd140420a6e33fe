"""Values that go out to a client and come back: signed, for one purpose alone, so that nobody can make one up."""

from __future__ import annotations

import base64
import binascii
import hmac

from perdure.model.json import InvalidJsonError, Json, decode, encode


class BrokenSealError(ValueError):
    """A text that this server did not seal, or not for this purpose."""


class Seals:
    """Seals JSON values with a secret, which all processes share that are to read them.

    >>> seals = Seals(b"secret")
    >>> seals.open("greeting", seals.seal("greeting", {"to": "Ada"}))
    {'to': 'Ada'}
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def seal(self, purpose: str, value: Json) -> str:
        """A value as text of letters, digits, `-`, `_` and one dot."""
        content = encode([purpose, value])
        return f"{_text(content)}.{_text(self._signature(content))}"

    def open(self, purpose: str, sealed: str) -> Json:
        """The value of a text. Raises `BrokenSealError`."""
        content, _, signature = sealed.partition(".")
        try:
            raw = _bytes(content)
            if hmac.compare_digest(self._signature(raw), _bytes(signature)):
                made_for, value = decode(raw)
                if made_for == purpose:
                    return value
        except (binascii.Error, InvalidJsonError, ValueError) as error:
            raise BrokenSealError(f"no seal of this server: {error}") from error
        raise BrokenSealError("no seal of this server, or one for another purpose")

    def _signature(self, content: bytes) -> bytes:
        return hmac.digest(self._secret, content, "sha256")


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

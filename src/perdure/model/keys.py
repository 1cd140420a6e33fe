"""Keys: the event key, which goes into the path of events, and the signing key, which proves who calls (part H).

A signing key is hex, with or without a prefix such as `signkey-prod-`. It serves twice: as a bearer (callers send
its hash, so that the key itself stays at home) and as the secret of the signature on calls of apps (C.2). What is
presented is compared with every key that is configured, in constant time. No key is ever shown: not by `repr`, not
in an error.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Final

from perdure.model.errors import ConfigError

SIGNATURE_WINDOW: Final = 5 * 60 * 1000
"""How far (ms) the time of a signature may be from the present, either way."""
NO_EVENT_KEY: Final = "NO_EVENT_KEY_SET"
"""What SDKs send to a server for development when they have no event key."""

_PREFIX = re.compile(r"signkey-\w+-")
_SIGNING_KEY = re.compile(r"(signkey-\w+-)?([0-9a-fA-F]+)")
_SIGNATURE = re.compile(r"t=([0-9]{1,12})&s=([0-9a-f]{64})")
# What stands in the path of a URL as it is: SDKs put the key there unescaped.
_EVENT_KEY = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@]+")


class SigningKey:
    """A signing key. Make one with `parse`.

    >>> SigningKey.parse("signkey-prod-00ff")
    SigningKey(...)
    """

    __slots__ = ("_prefix", "_text")

    def __init__(self, prefix: str, text: str) -> None:
        self._prefix = prefix
        self._text = text

    @classmethod
    def parse(cls, text: str, *, named: str = "signing_key") -> SigningKey:
        """Reads `signkey-<environment>-<hex>` or bare hex; raises `ConfigError`, in which the key is called `named`."""
        match = _SIGNING_KEY.fullmatch(text)
        if match is None:
            raise ConfigError(named, ['must be hex, with or without a prefix such as "signkey-prod-"'])
        if len(match[2]) % 2:
            raise ConfigError(named, [f"must be hex of an even length, got {len(match[2])} digits; is a part missing?"])
        return cls(match[1] or "", match[2])

    @property
    def bearer(self) -> str:
        """What a caller sends after "Bearer ": the prefix, and the hash of the key."""
        return self._prefix + self._hash

    @property
    def spellings(self) -> tuple[str, str]:
        """What a server takes after "Bearer ", any prefix removed: the key, and its hash."""
        return self._text.lower(), self._hash

    @property
    def _hash(self) -> str:
        return hashlib.sha256(bytes.fromhex(self._text)).hexdigest()

    def sign(self, body: bytes, at: int) -> str:
        """The value of X-Inngest-Signature for a body as it is sent, at a time in ms.

        >>> SigningKey.parse("00ff").sign(b"{}", 1_700_000_000_000)[:15]
        't=1700000000&s='
        """
        seconds = str(at // 1000)
        return f"t={seconds}&s={self._digest(body, seconds)}"

    def verify(self, body: bytes, signature: str, now: int) -> bool:
        """Whether a signature is that of this key over the body, made within five minutes of `now` (ms)."""
        match = _SIGNATURE.fullmatch(signature)
        if match is None:
            return False
        genuine = hmac.compare_digest(self._digest(body, match[1]), match[2])
        return genuine and abs(int(match[1]) * 1000 - now) <= SIGNATURE_WINDOW

    def derive(self, purpose: str) -> bytes:
        """A secret for one purpose (32 bytes): servers with the same key have the same, and it stays over restarts."""
        return hmac.new(bytes.fromhex(self._text), b"perdure/" + purpose.encode(), hashlib.sha256).digest()

    def _digest(self, body: bytes, seconds: str) -> str:
        # The secret is the text of the key, not the bytes that its hex stands for.
        return hmac.new(self._text.encode(), body + seconds.encode(), hashlib.sha256).hexdigest()

    def __repr__(self) -> str:
        return "SigningKey(...)"


class EventKey:
    """An event key. Make one with `parse`.

    >>> EventKey.parse("orders-service")
    EventKey(...)
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    @classmethod
    def parse(cls, text: str, *, named: str = "event_key") -> EventKey:
        """Checks that the key can stand in a path; raises `ConfigError`, in which the key is called `named`."""
        if _EVENT_KEY.fullmatch(text) is None:
            raise ConfigError(named, ["must be letters, digits and -._~, for it stands in the path of events"])
        if text == NO_EVENT_KEY:
            raise ConfigError(named, [f"must be a secret; {NO_EVENT_KEY} is what SDKs send when they have no key"])
        return cls(text)

    @property
    def spellings(self) -> tuple[str]:
        return (self._text,)

    def __repr__(self) -> str:
        return "EventKey(...)"


class Keys:
    """The keys of a server: event keys, and signing keys of which the first signs and every one is accepted.

    >>> keys = Keys([EventKey.parse("orders")], [SigningKey.parse("signkey-prod-00ff")])
    >>> keys.knows_event_key("orders"), keys.knows_bearer("00ff"), keys
    (True, True, Keys(1 event key, 1 signing key))
    """

    def __init__(self, event_keys: Iterable[EventKey], signing_keys: Iterable[SigningKey]) -> None:
        events, self._signing = tuple(event_keys), tuple(signing_keys)
        if not events or not self._signing:
            missing = "signing" if events else "event"
            raise ConfigError("keys", [f"a server needs an event key and a signing key, got no {missing} key"])
        self._event_digests = [_digest(text) for key in events for text in key.spellings]
        self._bearer_digests = [_digest(text) for key in self._signing for text in key.spellings]
        self._counts = len(events), len(self._signing)

    def knows_event_key(self, text: str) -> bool:
        """Whether this is one of the event keys."""
        return _is_among(text, self._event_digests)

    def knows_bearer(self, text: str) -> bool:
        """Whether this is a signing key, plain or hashed, with any prefix or none."""
        prefix = _PREFIX.match(text)
        return _is_among(text[prefix.end() if prefix else 0 :].lower(), self._bearer_digests)

    def sign(self, body: bytes, at: int) -> str:
        """See `SigningKey.sign`; the first signing key signs."""
        return self._signing[0].sign(body, at)

    def derive(self, purpose: str) -> bytes:
        """A secret for one purpose (32 bytes), made of the first signing key; it tells nothing about the key."""
        return self._signing[0].derive(purpose)

    def verify(self, body: bytes, signature: str, now: int) -> bool:
        """See `SigningKey.verify`; the signature may be that of any signing key."""
        # A list, not a generator: every key is tried, so that the time tells nothing.
        return any([key.verify(body, signature, now) for key in self._signing])

    def __repr__(self) -> str:
        return f"Keys({self})"

    def __str__(self) -> str:
        events, signing = self._counts
        return f"{_counted(events, 'event key')}, {_counted(signing, 'signing key')}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _digest(text: str) -> bytes:
    # Of hashes, all are of one length: comparing texts would tell the length of the key.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _is_among(text: str, digests: list[bytes]) -> bool:
    presented, known = _digest(text), False
    for each in digests:
        known |= hmac.compare_digest(presented, each)
    return known

"""Keys: the event key, which goes into the path of events, and the signing key, which proves who calls (part H).

API keys are for people and their tools: each has a role, and is good for nothing but a bearer. A branch environment
has keys of its own, made from those of the server and the environment's name: nobody has to keep them, and who has
those of one environment can do nothing in another.

A signing key is hex, with or without a prefix such as `signkey-prod-`. It serves twice: as a bearer (callers send
its hash, so that the key itself stays at home) and as the secret of the signature on calls of apps (C.2). What is
presented is compared with every key that is configured, in constant time. No key is ever shown: not by `repr`, not
in an error.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from typing import Final

from perdure.model.environments import fault, is_main
from perdure.model.errors import ConfigError
from perdure.model.roles import Role

SIGNATURE_WINDOW: Final = 5 * 60 * 1000
"""How far (ms) the time of a signature may be from the present, either way."""
NO_EVENT_KEY: Final = "NO_EVENT_KEY_SET"
"""What SDKs send to a server for development when they have no event key."""

_PREFIX = re.compile(r"signkey-\w+-")
_SIGNING_KEY = re.compile(r"(signkey-\w+-)?([0-9a-fA-F]+)")
_SIGNATURE = re.compile(r"t=([0-9]{1,12})&s=([0-9a-f]{64})")
# What stands in the path of a URL as it is: SDKs put the key there unescaped.
_EVENT_KEY = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@]+")
_API_KEY = re.compile(r"[A-Za-z0-9\-._~+/=]{16,}")


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

    def reveal(self) -> str:
        """The key itself, for whoever is to have it."""
        return self._prefix + self._text

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

    def reveal(self) -> str:
        """The key itself, for whoever is to have it."""
        return self._text

    @property
    def spellings(self) -> tuple[str]:
        return (self._text,)

    def __repr__(self) -> str:
        return "EventKey(...)"


class ApiKey:
    """A key with a role, good in one environment, or (`environment` is None) in all. Make one with `parse`.

    >>> ApiKey.parse("viewer:0123456789abcdef"), ApiKey.parse("operator@staging:0123456789abcdef")
    (ApiKey(viewer), ApiKey(operator@staging))
    """

    __slots__ = ("_text", "environment", "role")

    def __init__(self, role: Role, text: str, environment: str | None = None) -> None:
        self.role: Final = role
        self.environment: Final = environment
        self._text = text

    @classmethod
    def parse(cls, text: str, *, named: str = "api_key") -> ApiKey:
        """Reads `ROLE:SECRET` or `ROLE@ENVIRONMENT:SECRET`; raises `ConfigError`, which calls the key `named`."""
        whose, _, secret = text.rpartition(":")
        word, at, environment = whose.partition("@")
        role = Role.parse(word, named=named)
        if at and (problem := fault(environment)):
            raise ConfigError(named, [f"environment: {problem}"])
        if _API_KEY.fullmatch(secret) is None:
            raise ConfigError(named, ["must be ROLE:SECRET, the secret at least 16 letters, digits and -._~+/="])
        return cls(role, secret, environment if at else None)

    def opens(self, environment: str) -> bool:
        """Whether the key is good in an environment."""
        if self.environment is None or self.environment == environment:
            return True
        return is_main(self.environment) and is_main(environment)

    @property
    def spellings(self) -> tuple[str]:
        return (self._text,)

    def __repr__(self) -> str:
        return f"ApiKey({self.role.word}{'' if self.environment is None else f'@{self.environment}'})"


class Keys:
    """The keys of a server: event keys, signing keys of which the first signs and every one is accepted, API keys.

    >>> keys = Keys([EventKey.parse("orders")], [SigningKey.parse("signkey-prod-00ff")])
    >>> keys.knows_event_key("orders"), keys.role_of("00ff"), keys
    (True, <Role.ADMIN: 3>, Keys(1 event key, 1 signing key))
    """

    def __init__(
        self, event_keys: Iterable[EventKey], signing_keys: Iterable[SigningKey], api_keys: Iterable[ApiKey] = ()
    ) -> None:
        events, self._signing, api = tuple(event_keys), tuple(signing_keys), tuple(api_keys)
        if not events or not self._signing:
            missing = "signing" if events else "event"
            raise ConfigError("keys", [f"a server needs an event key and a signing key, got no {missing} key"])
        self._event_digests = [(_digest(text), Role.OPERATOR) for key in events for text in key.spellings]
        # Those of signing keys are hex without a prefix, in lower case; API keys are taken as they are.
        self._signing_digests = [(_digest(text), Role.ADMIN) for key in self._signing for text in key.spellings]
        self._api = api
        self._api_digests = [(_digest(text), key.role) for key in api if key.opens("") for text in key.spellings]
        self._counts = len(events), len(self._signing), len(api)
        self._session_key = self._signing[0]

    def environment(self, name: str) -> Keys:
        """The keys of a branch environment: those made for it, and for the rest of this server its admins.

        Sessions are the server's: somebody who signed in has in each environment the role that their key has there.
        """
        events, signing = self.own(name)
        made = Keys([events[0]], [signing[0]])
        made._event_digests = [(_digest(text), Role.OPERATOR) for key in events for text in key.spellings]
        made._signing = signing
        made._signing_digests = [
            *((_digest(text), Role.ADMIN) for key in signing for text in key.spellings),
            *self._signing_digests,
        ]
        opening = [key for key in self._api if key.opens(name)]
        made._api_digests = [(_digest(text), key.role) for key in opening for text in key.spellings]
        made._session_key = self._session_key
        return made

    def own(self, name: str) -> tuple[tuple[EventKey, ...], tuple[SigningKey, ...]]:
        """The event keys and signing keys made for a branch environment, the first of each for use.

        >>> keys = Keys([EventKey.parse("orders")], [SigningKey.parse("signkey-prod-00ff")])
        >>> keys.own("staging")[1][0].bearer == keys.own("review")[1][0].bearer
        False
        """
        made = [(key.derive(f"environment event {name}"), key.derive(f"environment {name}")) for key in self._signing]
        events = tuple(EventKey(event.hex()[:48]) for event, _ in made)
        return events, tuple(SigningKey("signkey-branch-", signing.hex()) for _, signing in made)

    def knows_event_key(self, text: str) -> bool:
        """Whether this is one of the event keys."""
        return _among(text, self._event_digests) is not None

    def role_of(self, bearer: str) -> Role | None:
        """The role of a bearer: a signing key, plain or hashed, with any prefix or none, or an API key."""
        found = self._find(bearer)
        return None if found is None else found[1]

    def mark_of(self, bearer: str) -> str | None:
        """A text that stands for a bearer's key while it is among the keys, and tells nothing about it."""
        found = self._find(bearer)
        return None if found is None else self._mark(found[0])

    def role_of_mark(self, mark: str) -> Role | None:
        """The role of the key that a mark stands for; None when it is no longer among the keys."""
        known = [(_digest(self._mark(digest)), role) for digest, role in (*self._signing_digests, *self._api_digests)]
        found = _among(mark, known)
        return None if found is None else found[1]

    def _find(self, bearer: str) -> tuple[bytes, Role] | None:
        prefix = _PREFIX.match(bearer)
        signing = _among(bearer[prefix.end() if prefix else 0 :].lower(), self._signing_digests)
        api = _among(bearer, self._api_digests)
        return signing or api

    def session_secret(self) -> bytes:
        """What sessions are signed with (32 bytes)."""
        return self._session_key.derive("session")

    def _mark(self, digest: bytes) -> str:
        return hmac.new(self._session_key.derive("mark"), digest, hashlib.sha256).hexdigest()[:32]

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
        events, signing, api = self._counts
        shown = f"{_counted(events, 'event key')}, {_counted(signing, 'signing key')}"
        return f"{shown}, {_counted(api, 'API key')}" if api else shown


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _digest(text: str) -> bytes:
    # Of hashes, all are of one length: comparing texts would tell the length of the key.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _among(text: str, known: Sequence[tuple[bytes, Role]]) -> tuple[bytes, Role] | None:
    presented, found = _digest(text), None
    # All are looked at, whichever it is, so that the time tells nothing.
    for each in known:
        if hmac.compare_digest(presented, each[0]):
            found = each
    return found

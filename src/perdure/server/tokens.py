"""Tokens: JSON Web Tokens (HS256) that the server gives out and takes back.

The time is the node's, and a token always ends. Without keys they are signed with a secret that everybody knows
(`Guard.secret`), as the protocol has it for development; it is shorter than the standard advises, which is no news.
"""

from __future__ import annotations

import base64

import jwt
import msgspec
from jwt.algorithms import HMACAlgorithm

from perdure.model.json import InvalidJsonError, Json, decode, encode

_LEEWAY = 5_000
"""How far ahead (ms) the clock of another server with the same keys may be."""


class TokenError(Exception):
    """A token that is not taken; the text says why."""


class Claims(msgspec.Struct, frozen=True):
    """What a token says: `issuer` who made it and what for, `subject` for whom, `extra` anything else."""

    issuer: str
    subject: str
    token_id: str
    extra: dict[str, Json]


class _Hmac(HMACAlgorithm):
    def check_key_length(self, key: bytes) -> str | None:
        return None


_jws = jwt.PyJWS(algorithms=[])
_jws.register_algorithm("HS256", _Hmac(HMACAlgorithm.SHA256))


def sign(claims: Claims, secret: bytes, *, now: int, lifetime: int) -> str:
    """A token that is good from `now` for `lifetime` (ms)."""
    payload = {
        **claims.extra,
        "iss": claims.issuer,
        "sub": claims.subject,
        "jti": claims.token_id,
        "iat": now // 1000,
        "exp": (now + lifetime) // 1000,
    }
    return _jws.encode(encode(payload), secret, "HS256")


def claimed(token: str, name: str) -> str:
    """A claim of a token as it says of itself, "" without one: to find who can verify it, and for nothing else."""
    try:
        payload = decode(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    except (IndexError, ValueError):
        return ""
    found = payload.get(name) if isinstance(payload, dict) else None
    return found if isinstance(found, str) else ""


def verify(token: str, secret: bytes, *, issuer: str, now: int) -> Claims:
    """What a token says; raises `TokenError` for one that is malformed, of another issuer or key, or over."""
    try:
        payload = decode(_jws.decode(token, secret, algorithms=["HS256"]))
    except (jwt.InvalidTokenError, InvalidJsonError, ValueError) as error:
        raise TokenError(f"the token is not valid: {error}") from error
    if not isinstance(payload, dict) or payload.pop("iss", None) != issuer:
        raise TokenError("the token is for something else")
    issued, expires = payload.pop("iat", 0), payload.pop("exp", None)
    if not isinstance(expires, int | float) or not isinstance(issued, int | float):
        raise TokenError("the token has no end")
    if expires * 1000 <= now:
        raise TokenError("the token has expired: get a new one")
    if issued * 1000 > now + _LEEWAY:
        raise TokenError("the token is from the future")
    subject, token_id = payload.pop("sub", ""), payload.pop("jti", "")
    return Claims(issuer, str(subject), str(token_id), payload)

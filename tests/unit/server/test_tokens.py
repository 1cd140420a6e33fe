"""Tokens: what they say comes back, and nothing else is taken for one."""

from __future__ import annotations

import pytest

from perdure.server.tokens import Claims, TokenError, sign, verify

NOW = 1_795_331_573_000
SECRET = b"a secret of the server"
CLAIMS = Claims("issuer", "subject", "id", {"topics": [1]})


def read(token: str, *, secret: bytes = SECRET, issuer: str = "issuer", now: int = NOW) -> Claims:
    return verify(token, secret, issuer=issuer, now=now)


def test_what_was_signed_comes_back_while_it_is_good() -> None:
    token = sign(CLAIMS, SECRET, now=NOW, lifetime=60_000)
    assert read(token) == read(token, now=NOW + 59_999) == read(token, now=NOW - 5_000) == CLAIMS


@pytest.mark.parametrize(
    ("secret", "issuer", "now", "told"),
    [
        (b"another", "issuer", NOW, "Signature verification failed"),
        (SECRET, "another", NOW, "for something else"),
        (SECRET, "issuer", NOW + 60_000, "expired"),
        (SECRET, "issuer", NOW - 5_001, "from the future"),
    ],
)
def test_a_token_of_another_key_purpose_or_time_is_refused(secret: bytes, issuer: str, now: int, told: str) -> None:
    token = sign(CLAIMS, SECRET, now=NOW, lifetime=60_000)
    with pytest.raises(TokenError, match=told):
        read(token, secret=secret, issuer=issuer, now=now)


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "é.é.é", "\x00", "{}", "e30.e30.e30", "x" * 100_000])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(TokenError, match="not valid"):
        read(token)


def test_what_a_caller_adds_does_not_take_the_place_of_what_the_server_says() -> None:
    token = sign(Claims("issuer", "s", "i", {"iss": "another", "exp": 0, "sub": "x"}), SECRET, now=NOW, lifetime=1000)
    assert read(token) == Claims("issuer", "s", "i", {})

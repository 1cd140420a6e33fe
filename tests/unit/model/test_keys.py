"""Keys: what is a key, what proves it, and that none is ever shown. Golden values were recorded from the wire."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from perdure.model.errors import ConfigError
from perdure.model.keys import NO_EVENT_KEY, SIGNATURE_WINDOW, ApiKey, EventKey, Keys, SigningKey
from perdure.model.roles import Role

HEX = "0123456789abcdef" * 4
HASH = "4884fdaafea47c29fea7159d0daddd9c085d6200e1359e85bb81736af6b7c837"
OTHER = "fedcba9876543210" * 4
AT = 1_700_000_000_000


def keys(*signing: str, events: tuple[str, ...] = ("evtkey1", "evtkey2")) -> Keys:
    return Keys([EventKey.parse(key) for key in events], [SigningKey.parse(key) for key in signing or (HEX,)])


@pytest.mark.parametrize("prefix", ["", "signkey-prod-", "signkey-test-", "signkey-branch-"])
def test_the_bearer_is_the_prefix_and_the_hash(prefix: str) -> None:
    assert SigningKey.parse(prefix + HEX).bearer == prefix + HASH
    assert hashlib.sha256(bytes.fromhex(HEX)).hexdigest() == HASH


@pytest.mark.parametrize(
    "presented",
    [
        HEX,
        "signkey-prod-" + HEX,
        "signkey-test-" + HEX,
        HASH,
        "signkey-prod-" + HASH,
        "signkey-branch-" + HASH,
        HEX.upper(),
    ],
)
@pytest.mark.parametrize("configured", [HEX, "signkey-prod-" + HEX])
def test_every_spelling_of_a_bearer_is_known(configured: str, presented: str) -> None:
    assert keys(configured).role_of(presented) is Role.ADMIN
    assert keys(OTHER, configured).role_of(presented) is Role.ADMIN
    assert keys(OTHER).role_of(presented) is None


@pytest.mark.parametrize(
    "presented",
    ["", "bad", HEX[:-1], HASH[:-2], HEX + "00", "signkey-prod-", "signkey-prod-signkey-prod-" + HEX, "\ud800é", OTHER],
)
def test_what_is_not_the_key_is_not_known(presented: str) -> None:
    assert keys().role_of(presented) is None and keys().mark_of(presented) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must be hex"),
        ("secret", "must be hex"),
        ("signkey-prod-", "must be hex"),
        ("signkey-00ff", "must be hex"),
        (" 00ff", "must be hex"),
        ("00ff\n", "must be hex"),
        ("signkey-prod-00f", "even length, got 3 digits"),
    ],
)
def test_a_text_that_is_no_signing_key(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        SigningKey.parse(text, named="--signing-key")
    assert str(caught.value).startswith("--signing-key is not valid: ")
    secret = text.removeprefix("signkey-prod-")
    assert len(secret) < 6 or secret not in str(caught.value)


@pytest.mark.parametrize("text", ["", "a/b", "a b", "a%20b", "a?b", "a#b", "schlüssel", "a\n", NO_EVENT_KEY])
def test_a_text_that_is_no_event_key(text: str) -> None:
    with pytest.raises(ConfigError, match="event_key is not valid: must be"):
        EventKey.parse(text)


def test_event_keys_are_told_apart_exactly() -> None:
    found = keys()
    assert found.knows_event_key("evtkey1") and found.knows_event_key("evtkey2")
    for other in ("", "evtkey", "evtkey3", "EVTKEY1", "evtkey1 ", "evtkey1evtkey2", "\ud800"):
        assert not found.knows_event_key(other)


def test_keys_need_one_of_each_kind() -> None:
    with pytest.raises(ConfigError, match="an event key and a signing key"):
        Keys([], [SigningKey.parse(HEX)])
    with pytest.raises(ConfigError, match="an event key and a signing key"):
        Keys([EventKey.parse("evtkey1")], [])


def test_no_key_is_shown() -> None:
    found = keys(HEX, OTHER)
    shown = f"{found} {found!r} {SigningKey.parse(HEX)!r} {EventKey.parse('evtkey1')!r}"
    assert not any(secret in shown for secret in (HEX, HASH, OTHER, "evtkey1"))
    assert str(found) == "2 event keys, 2 signing keys"


@pytest.mark.parametrize(
    ("body", "signature"),
    [
        (b'{"a": {"x": 1}, "b": 2}', "t=1795332092&s=7b9135aaf82fcc6e69d3c9ccf1b7764d09a780e73836859b7bcbc7d299131c35"),
        (
            b'[{"op":"RunComplete","id":"0737c22d3bfae812339732d14d8c7dbd6dc4e09c","data":{"a":{"x":1},"b":2}}]',
            "t=1795332088&s=f3f3a4f252241e5ae0c5eb017783a5f86a626ec922d859fe3fe3e09ffde0c6fd",
        ),
    ],
)
def test_signatures_are_those_of_the_sdks(body: bytes, signature: str) -> None:
    at = int(signature[2:12]) * 1000
    for text in (HEX, "signkey-prod-" + HEX):
        key = SigningKey.parse(text)
        assert key.sign(body, at + 999) == signature
        assert key.verify(body, signature, at)
        assert not key.verify(body + b" ", signature, at)
    assert not SigningKey.parse(OTHER).verify(body, signature, at)


def test_the_secret_of_a_signature_is_the_text_of_the_key() -> None:
    expected = hmac.new(b"00Ff", b"body1700000000", hashlib.sha256).hexdigest()
    assert SigningKey.parse("signkey-test-00Ff").sign(b"body", AT) == f"t=1700000000&s={expected}"


@pytest.mark.parametrize(
    ("age", "fresh"),
    [
        (0, True),
        (SIGNATURE_WINDOW, True),
        (-SIGNATURE_WINDOW, True),
        (SIGNATURE_WINDOW + 1, False),
        (-SIGNATURE_WINDOW - 1, False),
    ],
)
def test_a_signature_is_good_for_five_minutes(age: int, fresh: bool) -> None:
    signature = keys().sign(b"x", AT)
    assert keys().verify(b"x", signature, AT + age) is fresh


@pytest.mark.parametrize(
    "signature",
    ["", "t=", "s=", "t=&s=", "t=1700000000", "t=-1&s=00", "t=٣&s=00", f"t={'9' * 5000}&s=00", "t=1&s=é\ud800"],
)
def test_what_is_no_signature_is_refused(signature: str) -> None:
    assert not keys().verify(b"", signature, AT)


def test_the_first_key_signs_and_each_verifies() -> None:
    both = keys(HEX, OTHER)
    assert both.sign(b"x", AT) == SigningKey.parse(HEX).sign(b"x", AT)
    assert both.verify(b"x", SigningKey.parse(HEX).sign(b"x", AT), AT)
    assert both.verify(b"x", SigningKey.parse(OTHER).sign(b"x", AT), AT)
    assert not keys(HEX).verify(b"x", SigningKey.parse(OTHER).sign(b"x", AT), AT)


SECRET = "0123456789abcdefGHIJ"


@pytest.mark.parametrize("role", list(Role))
def test_an_api_key_has_its_role_as_a_bearer_and_is_no_event_key(role: Role) -> None:
    found = Keys([EventKey.parse("evt")], [SigningKey.parse(HEX)], [ApiKey.parse(f"{role.word}:{SECRET}")])
    assert found.role_of(SECRET) is role
    for other in (SECRET.lower(), SECRET[:-1], f"{role.word}:{SECRET}", "", f"signkey-prod-{SECRET}"):
        assert found.role_of(other) is None
    assert not found.knows_event_key(SECRET)
    assert str(found) == "1 event key, 1 signing key, 1 API key" and SECRET not in repr(found)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must begin with a role: viewer, operator, admin"),
        (SECRET, "must begin with a role"),
        (f"Viewer:{SECRET}", "must begin with a role"),
        ("viewer:", "at least 16"),
        ("viewer:short", "at least 16"),
        (f"viewer:{SECRET} ", "at least 16"),
    ],
)
def test_a_text_that_is_no_api_key(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        ApiKey.parse(text, named="--api-key")
    assert SECRET not in str(caught.value)


def test_a_mark_stands_for_a_key_while_it_is_there() -> None:
    key, viewer = SigningKey.parse(HEX), ApiKey.parse(f"viewer:{SECRET}")
    before = Keys([EventKey.parse("evt")], [key], [viewer])
    mark = before.mark_of(SECRET)
    assert mark is not None and SECRET not in mark
    assert before.role_of_mark(mark) is Role.VIEWER
    assert before.role_of_mark(before.mark_of(HEX) or "") is Role.ADMIN
    promoted = Keys([EventKey.parse("evt")], [key], [ApiKey.parse(f"operator:{SECRET}")])
    assert promoted.role_of_mark(mark) is Role.OPERATOR
    assert Keys([EventKey.parse("evt")], [key]).role_of_mark(mark) is None
    assert before.role_of_mark("") is None


def test_an_environment_has_keys_of_its_own_and_the_servers_admins() -> None:
    server = Keys(
        [EventKey.parse("evt")],
        [SigningKey.parse(HEX), SigningKey.parse(OTHER)],
        [
            ApiKey.parse(f"viewer:{SECRET}"),
            ApiKey.parse(f"operator@a:{SECRET}-a"),
            ApiKey.parse(f"admin@main:{SECRET}-m"),
        ],
    )
    a, b = server.environment("a"), server.environment("b")
    assert a.role_of(HEX) is a.role_of(OTHER) is b.role_of(HEX) is Role.ADMIN
    assert a.role_of(SECRET) is b.role_of(SECRET) is server.role_of(SECRET) is Role.VIEWER
    assert (a.role_of(f"{SECRET}-a"), b.role_of(f"{SECRET}-a"), server.role_of(f"{SECRET}-a")) == (
        Role.OPERATOR,
        None,
        None,
    )
    assert (a.role_of(f"{SECRET}-m"), server.role_of(f"{SECRET}-m")) == (None, Role.ADMIN)
    (event, old_event), (signing, old_signing) = server.own("a")
    assert signing.bearer.startswith("signkey-branch-")
    for own in (signing.bearer, old_signing.bearer, *signing.spellings):
        assert (a.role_of(own), b.role_of(own), server.role_of(own)) == (Role.ADMIN, None, None)
    for (text,) in (event.spellings, old_event.spellings):
        assert (a.knows_event_key(text), b.knows_event_key(text), server.knows_event_key(text)) == (True, False, False)
    assert not a.knows_event_key("evt")
    assert EventKey.parse(event.spellings[0]).spellings == event.spellings
    assert SigningKey.parse(f"signkey-branch-{signing.spellings[0]}").bearer == signing.bearer


def test_calls_of_an_environment_are_signed_with_its_own_key() -> None:
    server = keys(HEX)
    branch = server.environment("a")
    signature = branch.sign(b"body", AT)
    assert branch.verify(b"body", signature, AT)
    assert not server.verify(b"body", signature, AT) and not server.environment("b").verify(b"body", signature, AT)
    assert not branch.verify(b"body", server.sign(b"body", AT), AT)


def test_a_session_is_the_servers_and_has_in_each_environment_the_role_of_its_key() -> None:
    server = Keys([EventKey.parse("evt")], [SigningKey.parse(HEX)], [ApiKey.parse(f"operator@a:{SECRET}")])
    admin, scoped = server.mark_of(HEX), server.environment("a").mark_of(SECRET)
    assert admin is not None and scoped is not None
    assert server.environment("a").role_of_mark(admin) is Role.ADMIN
    assert server.environment("a").role_of_mark(scoped) is Role.OPERATOR
    assert server.role_of_mark(scoped) is None is server.environment("b").role_of_mark(scoped)

"""The tokens of realtime: what a subscriber may hear. One is needed to come in; the connection outlives it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from perdure.bus.realtime import MAX_TOPICS
from perdure.model.json import Json
from perdure.server.tokens import Claims, TokenError, sign, verify
from perdure.wire.identity import ACCOUNT_ID, ENVIRONMENT_ID
from perdure.wire.realtime import Topic, TopicError, parse_topics

PURPOSE: Final = "realtime"
"""For `Guard.secret`."""
ISSUER: Final = "rt.inngest.com"
LIFETIME: Final = 60_000
"""How long (ms) a connection may be made with a token."""


def issue_token(
    topics: Sequence[Topic],
    secret: bytes,
    *,
    now: int,
    token_id: str,
    lifetime: int = LIFETIME,
    environment_id: str = ENVIRONMENT_ID,
) -> str:
    """A token to hear topics of an environment. `now` and `lifetime` in ms; `token_id` a ULID."""
    claims: dict[str, Json] = {
        "env": environment_id,
        "topics": [topic.claim() for topic in topics],
        "publish": False,
    }
    return sign(Claims(ISSUER, ACCOUNT_ID, token_id, claims), secret, now=now, lifetime=lifetime)


def read_token(token: str, secret: bytes, *, now: int, environment_id: str = ENVIRONMENT_ID) -> list[Topic]:
    """What may be heard with a token; raises `TokenError`."""
    claims = verify(token, secret, issuer=ISSUER, now=now)
    if claims.extra.get("env") != environment_id:
        raise TokenError("the token is for another environment")
    try:
        # Servers of other makes write null for no topics.
        return parse_topics(claims.extra.get("topics") or [], MAX_TOPICS)
    except TopicError as error:
        raise TokenError(f"the token is not valid: {error}") from error

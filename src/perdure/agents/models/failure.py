"""What went wrong with a model: the errors, what they say, and whether another attempt makes sense.

Invariant: no text of an error carries a secret. Providers repeat keys and headers in what they answer, so whatever
looks like one is blotted out before it can reach a stream, a log or a row.
"""

from __future__ import annotations

import re
from typing import Final

from perdure.model.errors import NonRetriableError, PerdureError, RetryAfterError

MAX_TEXT: Final = 600
"""How much of what a provider said is worth telling (characters)."""

_SECRETS: Final = (
    re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"),
    # A dash, a digit or a mask tells a key from a word that begins like one.
    re.compile(
        r"\b(?:sk|pk|rk|gsk|xai|key|hf|AIza|AKIA|ghp|gho|tgp|csk|nvapi|pplx)(?:[-_]|(?=[\w*-]*[\d*]))[A-Za-z0-9*_-]{12,}"
    ),
    re.compile(r"(?i)((?:api[-_ ]?key|token|secret|password|authorization)[\"']?\s*[:=]\s*[\"']?)[^\s\"',;}]{4,}"),
    re.compile(r"(?<=//)[^/@\s:]+:[^/@\s]+(?=@)"),
)


class ModelError(PerdureError, ValueError):
    """What was given as a model cannot be one; the text names the part and the fix."""


class ModelCallError(PerdureError):
    """A model did not answer.

    `code` is one word for the kind of failure (`rate_limited`, `overloaded`, `timeout`, `authentication`,
    `context_window_exceeded`, ...), `status` the HTTP status where there was one, `model` is `provider/model`.
    """

    code: str = "error"
    status: int | None = None
    model: str = ""

    def about(self, code: str, model: str, status: int | None = None) -> None:
        """Sets what is known of the failure."""
        self.code = code
        self.model = model
        self.status = status


class ModelUnavailableError(ModelCallError, RetryAfterError):
    """Another attempt may succeed; `retry_after` says in how many seconds."""

    def __init__(
        self, message: str, retry_after: float = 0, *, code: str = "error", model: str = "", status: int | None = None
    ) -> None:
        RetryAfterError.__init__(self, redacted(message), retry_after)
        self.about(code, model, status)
        self.asked_for = retry_after > 0
        """Whether the provider said itself when to come back."""


class ModelRejectedError(ModelCallError, NonRetriableError):
    """The same request would fail again: a bad key, an unknown model, a prompt that is too long."""

    def __init__(self, message: str, *, code: str = "error", model: str = "", status: int | None = None) -> None:
        super().__init__(redacted(message))
        self.about(code, model, status)


def redacted(text: str) -> str:
    """A text without what looks like a secret, and of a length worth reading.

    >>> redacted("401: Incorrect API key provided: sk-abcdefghijklmnop1234")
    '401: Incorrect API key provided: [redacted]'
    >>> redacted('{"authorization": "Bearer abc.def.ghi"}')
    '{"authorization": "[redacted]"}'
    """
    text = without_secrets(text)
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "..."


def without_secrets(text: str) -> str:
    """A text in which whatever looks like a secret is blotted out.

    >>> without_secrets("postgres://ann:pa55word@db/orders cannot be reached, skipping everything")
    'postgres://[redacted]@db/orders cannot be reached, skipping everything'
    """
    for pattern in _SECRETS:
        text = pattern.sub(lambda found: (found[1] if _keeps(found) else "") + "[redacted]", text)
    return text


def _keeps(found: re.Match[str]) -> bool:
    return bool(found.re.groups) and found[1].lower() not in ("bearer", "basic")

"""How models are asked over HTTP: the request, by the format of the provider's API, and what its answer means.

`step.ai.infer` performs these requests from the process of the function, the gateway on behalf of apps on other
servers. Invariant: the key goes into the request and nowhere else; errors, logs and records do not show it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol
from urllib.parse import parse_qs, parse_qsl, quote, urlsplit

from perdure.model.errors import PerdureError, RetryAfterError
from perdure.model.json import InvalidJsonError, Json, decode, encode
from perdure.sdk.port import FetchRequest, FetchResponse, Host
from perdure.wire.replies import retry_after

REDACTED: Final = "[redacted]"
"""What stands where a secret was."""
_SHOWN = 1000
_TELLS_SECRETS = ("auth", "key", "token", "secret", "cookie", "password", "signature")


class Adapter(Protocol):
    """A model of a provider: where and how it is asked. The adapters of the `inngest` package on PyPI fit too."""

    def auth_key(self) -> str:
        """The API key; empty where none is needed."""
        ...

    def format(self) -> str:
        """The format of the API: "openai-chat", "openai-responses", "azure-openai", "anthropic", "gemini", ..."""
        ...

    def headers(self) -> dict[str, str]:
        """Further headers."""
        ...

    def on_call(self, body: dict[str, Json]) -> None:
        """Completes the body of a request, with the name of the model say."""
        ...

    def url_infer(self) -> str:
        """The URL that generates."""
        ...


class AiModel:
    """A model by its name, the URL at which its provider is asked, and the format of that provider's API.

    >>> AiModel.openai("gpt-5", api_key="sk-1")
    AiModel('gpt-5', url='https://api.openai.com/v1/chat/completions', format='openai-chat')
    """

    def __init__(
        self,
        name: str,
        *,
        url: str,
        api_key: str = "",
        format: str = "openai-chat",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._url = url
        self._key = api_key
        self._format = format
        self._headers = dict(headers or {})

    @classmethod
    def openai(cls, name: str, *, api_key: str, base_url: str = "https://api.openai.com/v1") -> AiModel:
        """A chat model of OpenAI, or at `base_url` of anybody who speaks its API (vLLM, Ollama, Groq, ...)."""
        return cls(name, url=f"{base_url.rstrip('/')}/chat/completions", api_key=api_key)

    @classmethod
    def anthropic(cls, name: str, *, api_key: str, base_url: str = "https://api.anthropic.com/v1") -> AiModel:
        """A model of Anthropic. Its API asks for `max_tokens` in the body."""
        headers = {"anthropic-version": "2023-06-01"}
        url = f"{base_url.rstrip('/')}/messages"
        return cls(name, url=url, api_key=api_key, format="anthropic", headers=headers)

    @classmethod
    def gemini(
        cls, name: str, *, api_key: str, base_url: str = "https://generativelanguage.googleapis.com/v1beta"
    ) -> AiModel:
        """A Gemini model of Google."""
        url = f"{base_url.rstrip('/')}/models/{quote(name)}:generateContent"
        return cls(name, url=url, api_key=api_key, format="gemini")

    def auth_key(self) -> str:
        return self._key

    def format(self) -> str:
        return self._format

    def headers(self) -> dict[str, str]:
        return dict(self._headers)

    def on_call(self, body: dict[str, Json]) -> None:
        # Gemini has the model in its URL, and refuses fields that it does not know.
        if self._format != "gemini":
            body.setdefault("model", self.name)

    def url_infer(self) -> str:
        return self._url

    def __repr__(self) -> str:
        return f"AiModel({self.name!r}, url={self._url!r}, format={self._format!r})"


class AIGatewayError(PerdureError):
    """A model was asked and gave no answer; `body` is what its provider said instead."""

    def __init__(self, message: str, body: str = "") -> None:
        # Not super(): beside this class there may be one that asks for more (see below).
        PerdureError.__init__(self, message)
        self.body = body

    def conceal(self, secrets: list[str]) -> None:
        """Takes secrets out of what it says."""
        self.args = (conceal(str(self), secrets),)
        self.body = conceal(self.body, secrets)


class _LaterError(AIGatewayError, RetryAfterError):
    """One whose provider says when to ask again."""

    def __init__(self, message: str, body: str, millis: int) -> None:
        super().__init__(message, body)
        self.retry_after = millis / 1000


# For those who read the record of a step there is one error.
_LaterError.__name__ = AIGatewayError.__name__


def inference_request(
    url: str, format: str, key: str, headers: Mapping[str, str], body: Json, timeout: float
) -> FetchRequest:
    """The request that asks a model. It follows no redirect, which could take the key elsewhere.

    >>> inference_request("https://x.test/v1/messages", "anthropic", "k", {}, {}, 60).headers
    {'Content-Type': 'application/json', 'x-api-key': 'k'}
    """
    found = {"Content-Type": "application/json", **_authorization(url, format, key)}
    for name, value in headers.items():
        for same in [other for other in found if other.lower() == name.lower()]:
            del found[same]
        found[name] = value
    return FetchRequest(url, "POST", found, encode(body), timeout, redirects=False)


def _authorization(url: str, format: str, key: str) -> dict[str, str]:
    if not key:
        return {}
    if format == "anthropic":
        return {"x-api-key": key}
    if format == "gemini":
        # The adapters of some SDKs put the key into the URL.
        return {} if "key" in parse_qs(urlsplit(url).query) else {"x-goog-api-key": key}
    if format == "azure-openai":
        return {"api-key": key}
    # What Bedrock is given is a signature of AWS, made by the app.
    return {"Authorization": key if format == "bedrock" else f"Bearer {key}"}


def answer(response: FetchResponse, now: int) -> bytes:
    """A provider's answer as JSON, a text where it is none. Raises `AIGatewayError` for one that is not 2xx."""
    body = response.body
    if 200 <= response.status_code < 300:
        return body.encode() if _is_json(body) else encode(body)
    shown = body if len(body) <= _SHOWN else body[:_SHOWN] + " ..."
    host = urlsplit(response.url).netloc.rpartition("@")[2]
    message = f"Error making AI request: {host} answered {response.status_code}: {shown or 'nothing'}"
    delay = retry_after({name.lower(): value for name, value in response.headers.items()}, now)
    raise AIGatewayError(message, body) if delay is None else _LaterError(message, body, delay)


async def infer(host: Host, request: FetchRequest, key: str) -> Json:
    """Asks a model from this process. Raises `AIGatewayError`, for having no answer too."""
    secrets = secrets_of(request.url, key, request.headers)
    try:
        return decode(answer(await host.fetch(request), host.now()))
    except AIGatewayError as error:
        error.conceal(secrets)
        raise
    except OSError as error:
        raise AIGatewayError(f"Error making AI request: {conceal(str(error), secrets)}") from None


def _is_json(text: str) -> bool:
    try:
        decode(text)
    except InvalidJsonError:
        return False
    return True


def is_secret(name: str) -> bool:
    """Whether a header or parameter of this name should not be shown.

    >>> is_secret("X-Api-Key"), is_secret("Content-Type")
    (True, False)
    """
    return any(part in name.lower() for part in _TELLS_SECRETS)


def secrets_of(url: str, key: str, headers: Mapping[str, str]) -> list[str]:
    """What must not be shown of a request, longest first."""
    query = urlsplit(url).query
    # As they mean, and as they are written.
    parameters = [*parse_qsl(query), *(pair.split("=", 1) for pair in query.split("&") if "=" in pair)]
    found = {key, *(value for name, value in [*headers.items(), *parameters] if is_secret(name))}
    found.add(urlsplit(url).password or "")
    found |= {quote(secret, safe="") for secret in found}
    # What is shorter is no secret, and would be found in every text.
    return sorted((secret for secret in found if len(secret) >= 4), key=len, reverse=True)


def conceal(text: str, secrets: list[str]) -> str:
    """The text without the secrets.

    >>> conceal("Incorrect API key: sk-12345", ["sk-12345"])
    'Incorrect API key: [redacted]'
    """
    for secret in secrets:
        text = text.replace(secret, REDACTED)
    return text

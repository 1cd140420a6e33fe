"""Embedders: texts in, vectors out. The port, and one over the protocol of OpenAI that many providers speak.

An embedder is any async callable that gives a vector for each text, in order. Its `space` names where its vectors
live: vectors of different spaces are never compared, so changing the embedder loses nothing and mixes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, Protocol

import aiohttp

from perdure.agents.errors import AgentError, InvalidOptionError
from perdure.agents.models.providers import ALIASES, COMPATIBLE, INSTEAD, KEYS
from perdure.model.json import InvalidJsonError, Json, decode

_OPENAI: Final = "https://api.openai.com/v1"
_AT_ONCE: Final = 96
"""Texts in one request."""
_TIMEOUT: Final = 60.0


class EmbeddingError(AgentError):
    """An embedder gave no vectors; trying again may help."""

    status = 502


class Embedder(Protocol):
    """Gives a vector for each text. `space` may be an attribute; without it the callable's name is taken."""

    async def __call__(self, texts: list[str]) -> list[list[float]]: ...


def space_of(embedder: Embedder) -> str:
    """Where the vectors of an embedder live."""
    space = getattr(embedder, "space", None) or getattr(embedder, "__qualname__", None)
    return str(space or type(embedder).__qualname__)


class OpenAIEmbedder:
    """Embeds by `POST {base_url}/embeddings`. The key is sent to that address and kept out of every message.

    `base_url` and `api_key` default to those of the provider that the name begins with (`OPENAI_BASE_URL` and
    `OPENAI_API_KEY` for `openai/...`). `dimensions` asks for shorter vectors, where the model can.

    >>> OpenAIEmbedder("openai/text-embedding-3-small", environ={"OPENAI_API_KEY": "k"}).space
    'openai/text-embedding-3-small'
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        dimensions: int | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        provider, _, name = model.partition("/")
        if not provider or not name:
            raise InvalidOptionError(f'embedder: must be named "provider/model", got {model!r}')
        variables = os.environ if environ is None else environ
        self._url = (base_url or _address(provider, variables)).rstrip("/") + "/embeddings"
        self._key = api_key or _key(provider, variables)
        self._model = name
        self._dimensions = dimensions
        self.space = model if dimensions is None else f"{model}@{dimensions}"

    def __repr__(self) -> str:
        return f"<OpenAIEmbedder {self.space!r}>"

    async def __call__(self, texts: list[str]) -> list[list[float]]:
        """The vectors of texts. Raises `EmbeddingError`."""
        found: list[list[float]] = []
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session:
                for start in range(0, len(texts), _AT_ONCE):
                    found += await self._ask(session, texts[start : start + _AT_ONCE])
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EmbeddingError(f"the embedder {self.space!r} did not answer: {type(error).__name__}") from error
        return found

    async def _ask(self, session: aiohttp.ClientSession, texts: list[str]) -> list[list[float]]:
        body: dict[str, Json] = {"model": self._model, "input": texts, "encoding_format": "float"}
        if self._dimensions is not None:
            body["dimensions"] = self._dimensions
        headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
        async with session.post(self._url, json=body, headers=headers) as response:
            if response.status != 200:
                raise EmbeddingError(f"the embedder {self.space!r} answered with status {response.status}")
            try:
                rows = sorted(decode(await response.read())["data"], key=lambda row: row["index"])
                vectors = [[float(value) for value in row["embedding"]] for row in rows]
            except (InvalidJsonError, KeyError, TypeError, ValueError) as error:
                raise EmbeddingError(f"the embedder {self.space!r} answered with something else") from error
        if len(vectors) != len(texts):
            raise EmbeddingError(f"the embedder {self.space!r} gave {len(vectors)} vectors for {len(texts)} texts")
        return vectors


def _address(provider: str, variables: Mapping[str, str]) -> str:
    own = variables.get(f"{provider.upper().replace('-', '_')}_BASE_URL")
    if own:
        return own
    if provider == "openai":
        return _OPENAI
    found = COMPATIBLE.get(provider) or INSTEAD.get(ALIASES.get(provider, provider))
    if found is None:
        raise InvalidOptionError(f"embedder: no address is known for the provider {provider!r}: give base_url")
    return found.url


def _key(provider: str, variables: Mapping[str, str]) -> str | None:
    found = COMPATIBLE.get(provider) or INSTEAD.get(provider)
    names = found.keys if found is not None else KEYS.get(ALIASES.get(provider, provider), ())
    for name in names:
        if variables.get(name):
            return variables[name]
    if names:
        raise InvalidOptionError(f"embedder: the provider {provider!r} needs a key: set {' or '.join(names)}")
    return None

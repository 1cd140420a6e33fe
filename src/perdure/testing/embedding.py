"""An embedder for tests: texts with the same words are near each other. Deterministic, without a network."""

from __future__ import annotations

import hashlib
import re


class HashingEmbedder:
    """Counts words in as many buckets as there are dimensions. `calls` has the texts of each call.

    >>> import asyncio
    >>> (one, two) = asyncio.run(HashingEmbedder()(["A red house", "a house, red"]))
    >>> one == two
    True
    """

    def __init__(self, dimensions: int = 256) -> None:
        self.space = f"test/hashing@{dimensions}"
        self.calls: list[list[str]] = []
        self._dimensions = dimensions

    async def __call__(self, texts: list[str]) -> list[list[float]]:
        self.calls.append(texts)
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> list[float]:
        # The constant in the last bucket gives a text without words a direction too.
        vector = [0.0] * (self._dimensions - 1) + [0.01]
        for word in re.findall(r"\w+", text.lower()):
            digest = hashlib.blake2b(word.encode(), digest_size=4).digest()
            vector[int.from_bytes(digest, "big") % (self._dimensions - 1)] += 1.0
        return vector

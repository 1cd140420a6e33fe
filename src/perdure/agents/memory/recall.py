"""Semantic recall: what was said before and is near in meaning to what is said now.

Texts are embedded in pieces, so that a long message is found by any part of it. Messages of the same thread come back
in their order; those of other threads are told as a quotation, so that they are not taken for this conversation.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from perdure.agents.memory.embedders import Embedder, EmbeddingError, space_of
from perdure.agents.memory.settings import SemanticRecall
from perdure.agents.messages import Message
from perdure.agents.storage import AgentStorage, Include, Match

_PIECE: Final = 2_000
"""Characters of a piece: a few hundred tokens, which every embedder takes."""
_MOST_PIECES: Final = 64
_SPOKEN: Final = ("user", "assistant")


def pieces(text: str) -> list[str]:
    """A text in pieces, cut between words where it can be.

    >>> [len(piece) for piece in pieces("word " * 500)]
    [1999, 499]
    """
    found: list[str] = []
    rest = text.strip()
    while rest and len(found) < _MOST_PIECES:
        cut = len(rest) if len(rest) <= _PIECE else (rest.rfind(" ", _PIECE // 2, _PIECE) + 1 or _PIECE)
        found.append(rest[:cut].strip())
        rest = rest[cut:].strip()
    return [piece for piece in found if piece]


async def embed(embedder: Embedder, texts: list[str]) -> list[list[float]]:
    """The vectors of texts. Raises `EmbeddingError` for an embedder that gives fewer or more."""
    vectors = await embedder(texts) if texts else []
    if len(vectors) != len(texts):
        raise EmbeddingError(f"the embedder gave {len(vectors)} vectors for {len(texts)} texts")
    return vectors


async def index(storage: AgentStorage, embedder: Embedder, messages: Collection[Message]) -> None:
    """Makes messages findable. Doing it again changes nothing."""
    spoken = [(message, pieces(message.text)) for message in messages if message.role in _SPOKEN]
    vectors = await embed(embedder, [piece for _, cut in spoken for piece in cut])
    for message, cut in spoken:
        if cut:
            await storage.put_embeddings(message.id, space_of(embedder), vectors[: len(cut)])
            vectors = vectors[len(cut) :]


async def nearest(
    storage: AgentStorage, embedder: Embedder, recall: SemanticRecall, query: str, thread_id: str, resource_id: str
) -> list[Match]:
    """The messages nearest to a text, best first."""
    cut = pieces(query)
    if not cut or not recall.top_k:
        return []
    (vector,) = await embed(embedder, cut[:1])
    in_thread = recall.scope == "thread"
    found = await storage.search(
        vector,
        space=space_of(embedder),
        thread_id=thread_id if in_thread else None,
        resource_id=None if in_thread else resource_id,
        limit=recall.top_k,
    )
    return [match for match in found if recall.threshold is None or match.score >= recall.threshold]


async def with_neighbours(
    storage: AgentStorage, recall: SemanticRecall, message_ids: Collection[str], without: Collection[str]
) -> list[Message]:
    """Messages with their neighbours, each once, those of a thread in its order."""
    wanted = [Include(message_id, recall.before, recall.after) for message_id in message_ids]
    return [message for message in await storage.around(wanted) if message.id not in without]


def quoted(messages: Collection[Message]) -> str:
    """Messages of other threads, as the model is told of them."""
    lines = [f"{message.role}: {message.text}" for message in messages if message.text]
    text = "\n".join(lines)
    return (
        "What was said in earlier conversations and may matter here. It is not part of this conversation.\n"
        f"<remembered_from_other_conversations>\n{text}\n</remembered_from_other_conversations>"
    )

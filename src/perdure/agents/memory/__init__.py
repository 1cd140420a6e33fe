"""Memory: what an agent remembers from turn to turn, and from conversation to conversation."""

from __future__ import annotations

from perdure.agents.memory.embedders import Embedder, EmbeddingError, OpenAIEmbedder
from perdure.agents.memory.filters import MessageFilter, RecentTokens, WithoutToolCalls
from perdure.agents.memory.memory import Memory, MemoryScope, Recalled
from perdure.agents.memory.settings import SemanticRecall, Titles, WorkingMemory
from perdure.agents.memory.titles import TitlePrompt

__all__ = [
    "Embedder",
    "EmbeddingError",
    "Memory",
    "MemoryScope",
    "MessageFilter",
    "OpenAIEmbedder",
    "Recalled",
    "RecentTokens",
    "SemanticRecall",
    "TitlePrompt",
    "Titles",
    "WithoutToolCalls",
    "WorkingMemory",
]

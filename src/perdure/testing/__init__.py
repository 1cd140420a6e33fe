"""Tools for testing durable functions: a virtual clock, an engine in memory, a pytest plugin. Public and documented.

For agents: `HashingEmbedder`; `ScriptedModel`, and `OpenAIStub`, a server, which are loaded when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from perdure.testing.clock import VirtualClock
from perdure.testing.embedding import HashingEmbedder
from perdure.testing.engine import in_memory
from perdure.testing.factory import EngineFactory

if TYPE_CHECKING:
    from perdure.testing.models import ScriptedModel
    from perdure.testing.openai_stub import OpenAIStub

__all__ = ["EngineFactory", "HashingEmbedder", "OpenAIStub", "ScriptedModel", "VirtualClock", "in_memory"]

_LATER = {"OpenAIStub": "perdure.testing.openai_stub", "ScriptedModel": "perdure.testing.models"}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)

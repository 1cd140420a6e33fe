"""Which models providers are known to have: a help for people who choose, never a check."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Final

from perdure.agents.models.providers import ALIASES
from perdure.model.json import Json

_CALLED: Final = {"google-gla": "google", "google-vertex": "google-cloud", "openai-chat": "openai"}
"""What pydantic-ai calls providers that go by another name here."""


@cache
def known_models() -> dict[str, list[str]]:
    """The models that pydantic-ai knows, by provider; none where it is not installed. Takes half a second once."""
    try:
        models: Json = import_module("pydantic_ai.models")
    except ImportError:
        return {}
    found: dict[str, list[str]] = {}
    for name in getattr(getattr(models.KnownModelName, "__value__", models.KnownModelName), "__args__", ()):
        provider, _, model = str(name).partition(":")
        provider = _CALLED.get(provider, ALIASES.get(provider, provider))
        if model and model not in found.setdefault(provider, []):
            found[provider].append(model)
    return found

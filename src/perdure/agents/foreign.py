"""Agents of other makers: told apart without importing their packages, and taken in by the module that knows them."""

from __future__ import annotations

from importlib import import_module

from perdure.model.json import Json


def is_pydantic_agent(value: object) -> bool:
    """Whether it is an agent of pydantic-ai, told by its classes and not by importing any.

    >>> is_pydantic_agent("an agent")
    False
    """
    bases = type(value).__mro__
    return any(base.__name__ == "AbstractAgent" and base.__module__.startswith("pydantic_ai.") for base in bases)


def pydantic_body(agent: object, id: str | None, name: str | None) -> Json:
    """Such an agent as the body of a durable one. Raises `ConfigError`."""
    # By name: that package stands on the one of durable agents, which calls this.
    return import_module("perdure.agents.pydantic_ai.body").PydanticBody(agent, id, name)

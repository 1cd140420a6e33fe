"""Every kind of mutation: what a store has to know how to write."""

from __future__ import annotations

from typing import Final

from perdure.engine import environments as of_environments
from perdure.engine import mutations
from perdure.engine.agents import mutations as of_agents
from perdure.engine.agents.stored import mutations as of_stored_agents
from perdure.engine.mutations import Mutation

KINDS: Final[tuple[type[Mutation], ...]] = tuple(
    kind
    for module in (mutations, of_environments, of_agents, of_stored_agents)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Mutation) and kind is not Mutation
)

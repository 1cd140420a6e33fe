"""The parts of an app by the keys that configurations name them by: tools, agents, workflows, scorers and the like.

What was added to the app (`App.add_tool` and its kin) comes first, and then what its agents have: their tools, scorers,
processors and models, those of sub-agents too. Functions are workflows, by their slug, with the app's name before it or
without. Invariant: it is what the app has at the moment; nothing is copied but references.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from perdure.agents.declared import DeclaredAgent
from perdure.agents.durable.agent import DurableAgent
from perdure.agents.durable.naming import STORED, SUB_AGENTS, TASKS, slug_of
from perdure.agents.memory.embedders import Embedder, OpenAIEmbedder
from perdure.agents.models import Models
from perdure.agents.models.call import Model
from perdure.agents.models.spec import resolve
from perdure.agents.scoring import scorers_of
from perdure.agents.tools import Tool, tools_by_name
from perdure.model.json import Json
from perdure.sdk.app import App
from perdure.sdk.function import Function


class Registry:
    """The parts of one app, found anew by each look: apps may get more of them while they run."""

    def __init__(self, app: App) -> None:
        self.app = app

    def check(self) -> None:
        """Raises `ConfigError` for parts that were added to the app and cannot be used."""
        tools_by_name(dict(self.app.tools))
        scorers_of(self.app.scorers)

    @property
    def tools(self) -> dict[str, Tool]:
        """Tools by key."""
        found = {name: tool for agent in self._declared() for name, tool in agent.tools.items()}
        return {**found, **tools_by_name(dict(self.app.tools))}

    @property
    def agents(self) -> dict[str, DeclaredAgent]:
        """Agents by id: those of the app, and their sub-agents by key and by id."""
        found: dict[str, DeclaredAgent] = {}
        for agent in self._declared():
            for key, inner in agent.agents.items():
                found.setdefault(key, inner)
                found.setdefault(inner.id, inner)
        own = {id: declared_of(agent) for id, agent in self.app.agents.items()}
        return {**found, **{id: agent for id, agent in own.items() if agent is not None}}

    @property
    def workflows(self) -> dict[str, Function[Json]]:
        """Functions by slug, and those that agents have as workflows, by their keys."""
        found: dict[str, Function[Json]] = {}
        own = {f"{self.app.id}-{slug_of(id)}" for id in (STORED, SUB_AGENTS, TASKS, *self.app.agents)}
        for slug, function in self.app.functions.items():
            if slug not in own:
                found[slug] = found[slug.removeprefix(f"{self.app.id}-")] = function
        return {**found, **{key: each for agent in self._declared() for key, each in agent.workflows.items()}}

    @property
    def scorers(self) -> dict[str, Json]:
        """Scorers by key."""
        return {**{key: each for agent in self._declared() for key, each in agent.scorers.items()}, **self.app.scorers}

    @property
    def processors(self) -> dict[str, Json]:
        """Processors by key."""
        of_agents = [each for agent in self._declared() for each in [*agent.input_processors, *agent.output_processors]]
        found = {getattr(each, "id", None) or type(each).__name__: each for each in of_agents}
        return {**found, **self.app.processors}

    def model(self, name: str, max_retries: int) -> Models:
        """The models of this name: one that was added, one that an agent has, or that of a provider.

        Raises `ModelError`.
        """
        added: Json = self.app.models.get(name)
        return resolve(added if added is not None else self._of_agents().get(name, name), max_retries)

    def embedder(self, name: str) -> Embedder:
        """The embedder of this name: one that was added, or that of a provider. Raises `AgentError`."""
        added: Embedder | None = self.app.embedders.get(name)
        return OpenAIEmbedder(name) if added is None else added

    def _of_agents(self) -> Mapping[str, Model]:
        return {entry.model.name: entry.model for agent in self._declared() for entry in agent.models.entries}

    def _declared(self) -> Iterator[DeclaredAgent]:
        """The agents of the app and those below them, each once; the app's own come last, so that they count."""
        seen: set[int] = set()
        left = [inner for agent in self.app.agents.values() if (inner := declared_of(agent)) is not None]
        order: list[DeclaredAgent] = []
        while left:
            agent = left.pop(0)
            if id(agent) not in seen:
                seen.add(id(agent))
                order.append(agent)
                left += agent.agents.values()
        yield from reversed(order)


def declared_of(agent: Json) -> DeclaredAgent | None:
    """What an agent is declared to be; None where it is of another make."""
    inner = agent.agent if isinstance(agent, DurableAgent) else agent
    return inner if isinstance(inner, DeclaredAgent) else None

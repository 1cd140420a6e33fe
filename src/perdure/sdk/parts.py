"""What an app offers besides its functions: agents, and parts that agents made of data may name by key.

Invariant: nothing here knows what an agent or a tool is; whoever reads them does.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from perdure.model.errors import ConfigError
from perdure.model.json import Json
from perdure.sdk.users import Hook, Users


class Parts:
    """The agents and other parts of an app. The last one of a key counts."""

    id: str

    def __init__(self) -> None:
        self._agents: dict[str, Json] = {}
        self._tools: dict[str, Json] = {}
        self._scorers: dict[str, Json] = {}
        self._processors: dict[str, Json] = {}
        self._models: dict[str, Json] = {}
        self._embedders: dict[str, Json] = {}
        self._users: Users | None = None

    @property
    def agents(self) -> Mapping[str, Json]:
        """The agents by id, which a server of the app offers over HTTP: durable ones, and those that were added."""
        return MappingProxyType(self._agents)

    @property
    def offers(self) -> bool:
        """Whether there is anything of which agents are, or may be made."""
        return any((self._agents, self._tools, self._scorers, self._processors, self._models, self._embedders))

    @property
    def tools(self) -> Mapping[str, Json]:
        """The tools that were added, by key. Tools of agents are known besides."""
        return MappingProxyType(self._tools)

    @property
    def scorers(self) -> Mapping[str, Json]:
        """The scorers that were added, by key."""
        return MappingProxyType(self._scorers)

    @property
    def processors(self) -> Mapping[str, Json]:
        """The processors that were added, by key."""
        return MappingProxyType(self._processors)

    @property
    def models(self) -> Mapping[str, Json]:
        """The models that were added, by name."""
        return MappingProxyType(self._models)

    @property
    def users(self) -> Users | None:
        """Who may ask the agents besides callers with a key of the server; None where nobody was named."""
        return self._users

    def set_users(
        self,
        authenticate: Hook,
        *,
        resource: Hook | None = None,
        authorize: Hook | None = None,
        role: Hook | None = None,
    ) -> None:
        """Lets users of the app ask its agents over HTTP, each with a token of the app's own; see `Users`."""
        for name, hook in (
            ("authenticate", authenticate),
            ("resource", resource),
            ("authorize", authorize),
            ("role", role),
        ):
            if hook is not None and not callable(hook):
                raise ConfigError(f"app {self.id!r}", [f"{name}: must be a function, got {hook!r}"])
        self._users = Users(authenticate, resource, authorize, role)

    @property
    def embedders(self) -> Mapping[str, Json]:
        """The embedders that were added, by name."""
        return MappingProxyType(self._embedders)

    def add_agent(self, agent: Json) -> None:
        """Offers an agent over HTTP. A durable one is offered by itself; one of the same id gives way to this."""
        id: Json = getattr(agent, "id", None)
        if not isinstance(id, str) or not callable(getattr(agent, "stream", None)):
            raise ConfigError(f"app {self.id!r}", [f"agent: must be an agent, got {agent!r}"])
        self._agents[id] = agent

    def add_tool(self, tool: Json, key: str | None = None) -> None:
        """Lets stored agents name a tool (`@tool`, or a typed function). Its key is its name, unless one is given."""
        if not callable(tool) and not callable(getattr(tool, "call", None)):
            raise ConfigError(f"app {self.id!r}", [f"tool: must be a tool or a function, got {tool!r}"])
        self._tools[self._key("tool", key, tool)] = tool

    def add_scorer(self, key: str, scorer: Json) -> None:
        """Lets stored agents name a scorer: a function, or a `Scorer`."""
        if not callable(getattr(scorer, "judge", scorer)):
            raise ConfigError(f"app {self.id!r}", [f"scorer: must be a function or a Scorer, got {scorer!r}"])
        self._scorers[self._key("scorer", key, scorer)] = scorer

    def add_processor(self, processor: Json, key: str | None = None) -> None:
        """Lets stored agents name a processor. Its key is its `id`, or the name of its class."""
        named = key or getattr(processor, "id", None) or type(processor).__name__
        self._processors[self._key("processor", named, processor)] = processor

    def add_model(self, name: str, model: Json) -> None:
        """Lets stored agents name a model object, as `provider/model`. Those of known providers need not be added."""
        if not all(str(name).partition("/")):
            raise ConfigError(f"app {self.id!r}", [f'model: its name must be "provider/model", got {name!r}'])
        if model is None or callable(model):
            raise ConfigError(f"app {self.id!r}", [f"model: must be a model object, got {model!r}"])
        self._models[name] = model

    def add_embedder(self, name: str, embedder: Json) -> None:
        """Lets the memory of stored agents name an embedder: a coroutine function that gives vectors for texts."""
        if not callable(embedder):
            raise ConfigError(f"app {self.id!r}", [f"embedder: must be a callable, got {embedder!r}"])
        self._embedders[self._key("embedder", name, embedder)] = embedder

    def _key(self, kind: str, key: str | None, part: Json) -> str:
        found = key or getattr(part, "name", None) or getattr(part, "__name__", None)
        if not isinstance(found, str) or not found:
            raise ConfigError(f"app {self.id!r}", [f"{kind}: has no name: give key=..., for {part!r}"])
        return found

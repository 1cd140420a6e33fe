"""How agents that are data are carried out: one durable agent of an app stands for all of them.

`serve_stored_agents` registers its function before the app runs, so that what is stored later needs no restart, on any
node. A run's row has the `Variant` that it began with, and `VariantBodies` makes the agent of it anew wherever the run
goes on. Invariant: what a run does follows from its row and the app's code alone, never from what is stored now.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from weakref import WeakKeyDictionary

import msgspec

from perdure.agents.agent import Agent
from perdure.agents.chunks import Chunk
from perdure.agents.declared import DeclaredAgent
from perdure.agents.durable.agent import DurableAgent
from perdure.agents.durable.base import DurableSettings
from perdure.agents.durable.body import Body, Request
from perdure.agents.durable.loop_body import LoopBody
from perdure.agents.durable.naming import STORED
from perdure.agents.durable.reading import new_ids
from perdure.agents.durable.variants import VARIANT, keep_variants
from perdure.agents.journal import Delegation, Journal
from perdure.agents.options import Closures
from perdure.agents.storage import AgentStorage
from perdure.agents.stored.building import Variant, build
from perdure.agents.stored.registry import Registry, declared_of
from perdure.agents.stored.selected import Selected, selected_now
from perdure.agents.stored.storage import StoredAgents
from perdure.model.errors import NonRetriableError
from perdure.model.jcs import canonical
from perdure.model.json import Json
from perdure.model.limits import DAY
from perdure.sdk.app import App

KEPT: Final = 256
"""How many agents that were made of data are kept."""
_COMPACT_AFTER: Final = 60.0


class VariantBodies:
    """Makes bodies of variants for one app, and keeps those that were used last. Fills `Variants`."""

    def __init__(self, app: App) -> None:
        self._registry = Registry(app)
        self._kept: OrderedDict[bytes, LoopBody] = OrderedDict()

    def body(self, agent_id: str, variant: dict[str, Json], registered: Body) -> LoopBody:
        """The body of a variant of an agent. Raises `ConfigError`."""
        key = canonical([agent_id, variant])
        known = self._kept.get(key)
        if known is not None:
            self._kept.move_to_end(key)
            return known
        agent = self.agent(agent_id, msgspec.convert(variant, Variant), registered)
        made = self._kept[key] = LoopBody(agent, agent_id, agent.name)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return made

    async def current(self, agent_id: str, registered: Body, storage: AgentStorage) -> Body | None:
        """The body of an agent as it is stored now; None where nothing is. Raises `ConfigError`."""
        stored = StoredAgents(storage.store, now=storage.now, ids=storage.ids)
        found = await selected_now(stored, agent_id, self._registry.app.agents.__contains__)
        return None if found is None else DescribedBody(found, self, registered)

    def agent(self, agent_id: str, variant: Variant, registered: Body | None = None) -> Agent:
        """The agent itself. Raises `ConfigError`, and `NonRetriableError` where the code below it is gone."""
        declared = registered.wrapped if registered is not None else None
        if not isinstance(declared, DeclaredAgent):
            declared = declared_of(self._registry.app.agents.get(agent_id))
        if variant.in_code and declared is None:
            raise NonRetriableError(f"agent {agent_id!r} is not declared in app {self._registry.app.id!r} any more")
        return build(agent_id, variant, self._registry, declared)


class DescribedBody(LoopBody):
    """The body of an agent that is stored: each run begins with what the agent is for its request."""

    def __init__(self, described: Selected, bodies: VariantBodies, registered: Body) -> None:
        self._described = described
        self._bodies = bodies
        self._registered = registered
        variant = described.variant({})
        agent = bodies.agent(described.id, variant, registered)
        super().__init__(agent, described.id, registered.name if variant.in_code else agent.name)

    async def request(
        self, messages: Json, options: dict[str, Json], *, new_id: Callable[[], str], now: int, strict: bool
    ) -> Request:
        context: Json = options.get("request_context")
        variant = self._described.variant(context if isinstance(context, Mapping) else {}).to_json()
        body = self._bodies.body(self.id, variant, self._registered)
        request = await body.request(messages, options, new_id=new_id, now=now, strict=strict)
        # What is said stays the same when the agent is edited: the same id is the same run then, too.
        request.data = {**request.data, VARIANT: variant}
        return request


class NoBody:
    """The body of the agent that stands for all stored ones: it has none of its own."""

    id = STORED
    name = "Stored agents"
    version = "1"
    remembers = True
    wrapped: object = None

    async def request(
        self, messages: Json, options: dict[str, Json], *, new_id: Callable[[], str], now: int, strict: bool
    ) -> Request:
        raise _nothing()

    async def run(
        self, journal: Journal, data: dict[str, Json], storage: AgentStorage, closures: Closures
    ) -> dict[str, Json]:
        raise _nothing()

    async def delegate(self, journal: Journal, delegation: Delegation) -> Json:
        raise _nothing()

    async def keep_partial(self, data: dict[str, Json], said: Sequence[Chunk], storage: AgentStorage, now: int) -> None:
        raise _nothing()

    def edits_args(self, tool_name: str) -> bool:
        return False


def _nothing() -> NonRetriableError:
    return NonRetriableError("a run of a stored agent must say which: begin it through the agent")


class StoredHome:
    """Where the stored agents of an app are carried out: by `host`.

    Raises `ConfigError` for parts that were added to the app and cannot be used.
    """

    def __init__(self, app: App) -> None:
        Registry(app).check()
        self.bodies = VariantBodies(app)
        settings = DurableSettings(
            keep_for=7 * DAY, compact_after=_COMPACT_AFTER, accepts_versions=None, only_variants=True
        )
        self._nobody = NoBody()
        self.host = DurableAgent(self._nobody, app, settings, new_ids())
        keep_variants(app, self.bodies)

    def durable(self, described: Selected, registered: DurableAgent | None = None) -> DurableAgent:
        """A stored agent, or one that is `registered`, as it is stored now. Raises `ConfigError`."""
        host = registered or self.host
        body = host.body if registered is not None else self._nobody
        return host.with_body(DescribedBody(described, self.bodies, body))

    def plain(self, described: Selected, context: Mapping[str, Json]) -> Agent:
        """A stored agent whose runs end with their requests. Raises `ConfigError`."""
        return self.bodies.agent(described.id, described.variant(context))


_OF_APPS: WeakKeyDictionary[App, StoredHome] = WeakKeyDictionary()


def serve_stored_agents(app: App) -> StoredHome:
    """Lets an app carry out agents that are data. Whoever runs an app with agents calls it before."""
    found = _OF_APPS.get(app)
    if found is None:
        found = _OF_APPS[app] = StoredHome(app)
    return found

"""Which agents are offered: those that are declared in code, and those that are data, as they are at the moment."""

from __future__ import annotations

from dataclasses import replace
from weakref import WeakKeyDictionary

from perdure.agents.agent import Agent
from perdure.agents.chunks import Chunk
from perdure.agents.errors import NotThereError
from perdure.agents.stored.selected import Selector, selectors_of
from perdure.model.json import Json
from perdure.sdk.app import App
from perdure.server.agents.plain_runs import PlainRun
from perdure.server.agents.served import ServedAgent as ServedAgent
from perdure.server.agents.served import Suspended as Suspended
from perdure.server.agents.stored_serving import StoredServing
from perdure.server.agents.thread_runs import ThreadRuns
from perdure.server.backend import Backend
from perdure.server.envelope import ApiError
from perdure.store.protocol import Store


class Agents:
    """The agents of a node, as they are at the moment."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.stored = StoredServing(backend, self._make)
        self._served: dict[str, ServedAgent] = {}
        self._threads: WeakKeyDictionary[Store, ThreadRuns] = WeakKeyDictionary()

    def all(self) -> list[ServedAgent]:
        """All that are offered, in the order in which they were made: first those that are declared in code."""
        offered = self.backend.agents
        self._served = {id: self._known(id, *pair) for id, pair in offered.items()}
        return [self.one(id) for id in offered] + self.stored.others(offered)

    def one(self, id: str) -> ServedAgent:
        """The agent with this id. Raises `ApiError` (404)."""
        found = self.find(id)
        if found is None:
            raise ApiError(404, f"Agent with id {id} not found")
        return found

    async def owner_of(self, agent: Json, run_id: str) -> str | None:
        """The resource that a run of an agent belongs to; None where it belongs to nobody, or there is no such run."""
        served = self.find(agent) if isinstance(agent, str) else None
        if served is None:
            return None
        known = served.suspended.get(run_id)
        run = None if known is not None else await self.threads(served).storage.run(run_id)
        return known.resource_id if known is not None else None if run is None else run.resource_id

    def app_of(self, id: str) -> App | None:
        """The app of an agent, whether or not it can be carried out; None where there is none."""
        found = self.backend.agents.get(id)
        return self.stored.app_for(id) if found is None else found[1]

    def find(self, id: str) -> ServedAgent | None:
        """The agent with this id, None where there is none."""
        return self.stored.now(id, self.declared(id))

    def declared(self, id: str) -> ServedAgent | None:
        """The agent that is declared in code under this id, as its code says, None where there is none."""
        found = self.backend.agents.get(id)
        if found is None:
            return None
        served = self._served[id] = self._known(id, *found)
        return served

    async def chosen(self, served: ServedAgent, selector: Selector, context: dict[str, Json]) -> ServedAgent:
        """The version of an agent that a request means. Raises `NotThereError`."""
        if selector == Selector() and served.selected is None:
            return served
        return await self.stored.chosen(served, self.declared(served.id), selector, context)

    async def for_run(self, served: ServedAgent, body: dict[str, Json], options: dict[str, Json]) -> ServedAgent:
        """The version of an agent that a run is to have: `agentVersionId` in the request context says which one.

        So does `agentVersionStatus`, "draft" or "published", where no id is named.

        A version that there is not changes nothing, as in that protocol. `versions` choose those of agents below it.
        """
        context: dict[str, Json] = options.get("request_context") or {}
        named: Json = context.get("agentVersionId")
        status: Json = context.get("agentVersionStatus")
        wanted = Selector(named if isinstance(named, str) else None, status if isinstance(status, str) else None)
        found = served
        # What a durable agent is for a request, its run finds out by itself.
        if not served.durable or wanted != Selector():
            try:
                found = await self.chosen(served, wanted, context)
            except NotThereError:
                found = await self.chosen(served, Selector(), context)
        below = selectors_of(body)
        return await self.stored.with_below(found, self.declared(found.id), below) if below else found

    def threads(self, served: ServedAgent) -> ThreadRuns:
        """The runs of threads where this agent keeps them. Raises `AgentError` where nothing runs its app."""
        storage = served.storage
        known = self._threads.get(storage.store)
        if known is None:
            known = self._threads[storage.store] = ThreadRuns(storage, self.one, self._noted)
        return known

    def _noted(self, run: PlainRun, said: Chunk) -> None:
        served = self.find(run.run.agent_id)
        if said.type == "suspended" and served is not None:
            now, owner = self.backend.clock.now(), (run.run.thread_id, run.run.resource_id)
            served.note(Suspended(run.run.run_id, *owner, now, run.given))

    def _known(self, id: str, agent: Json, app: App) -> ServedAgent:
        known = self._served.get(id)
        if known is not None and known.given is agent:
            return known
        return self._make(agent, app)

    def _make(self, agent: Json, app: App) -> ServedAgent:
        served = ServedAgent(agent, app)
        if isinstance(served.run, Agent):
            here = served.run.surroundings
            served.run.surroundings = replace(here, inbox=lambda asked: self.threads(served).storage.inbox(asked))
        return served

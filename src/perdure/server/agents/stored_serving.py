"""The agents that are data, as they are offered: looked up before each request, so that an edit counts at once.

Whoever handles a request finds agents without waiting (`Agents.one`); `StoredServing.look` has asked the store before,
for the agent that the request names, or for all. Invariants: nothing is older than the request; an agent of which the
configuration cannot be carried out is not offered, and says why.
"""

from __future__ import annotations

import copy
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from perdure.agents.agent import Agent, share_runs
from perdure.agents.durable import DurableAgent
from perdure.agents.durable.engines import local_engine
from perdure.agents.errors import AgentError
from perdure.agents.memory import Memory
from perdure.agents.stored import Registry, StoredAgents, serve_stored_agents
from perdure.agents.stored.registry import declared_of
from perdure.agents.stored.selected import (
    Selected,
    Selector,
    State,
    selected,
    selected_below,
    states_of,
    version_of,
)
from perdure.agents.stored.storage import NoSuchVersionError, Version
from perdure.agents.stored.variants import StoredHome
from perdure.model.errors import ConfigError
from perdure.model.json import Json
from perdure.sdk.app import App
from perdure.server.agents.served import ServedAgent
from perdure.server.backend import Backend

_log = logging.getLogger("perdure.server")
KEPT: Final = 10_000
_EMPTY: Final = State(None, None)


class StoredServing:
    """Offers agents of data. `make` is how an agent becomes one that is offered."""

    def __init__(self, backend: Backend, make: Callable[[Json, App], ServedAgent]) -> None:
        self._backend = backend
        self._make = make
        self._states: OrderedDict[str, State] = OrderedDict()
        self._offered: OrderedDict[tuple[str, str | None], tuple[object, ServedAgent]] = OrderedDict()
        self._first: dict[str, ServedAgent] = {}
        self._changes: dict[str, tuple[tuple[int, int], ...]] = {}

    @property
    def apps(self) -> list[App]:
        """The apps whose parts may be used."""
        return [app for app in self._backend.apps if app.offers]

    @property
    def storage(self) -> StoredAgents:
        """Where they are kept. Raises `AgentError` where nothing runs the apps."""
        for app in self.apps:
            engine = local_engine(app)
            if engine is not None:
                found = engine.storage
                return StoredAgents(found.store, now=found.now, ids=found.ids)
        raise AgentError("stored agents: nothing runs the apps")

    def app_of(self, app_id: str) -> App:
        """The app that carries out an agent: the one that it was made for, or the first."""
        return next((app for app in self.apps if app.id == app_id), self.apps[0])

    def app_for(self, id: str) -> App | None:
        """The app of a stored agent that has been looked at; None where there is none."""
        stored = self._states.get(id, _EMPTY).stored
        return None if stored is None else self.app_of(stored.app_id)

    def registry(self, app_id: str) -> Registry:
        """The parts that an agent may name."""
        return Registry(self.app_of(app_id))

    # Looking.

    async def look(self, id: str) -> None:
        """Learns how an agent stands, and those of data below it."""
        for each, state in (await states_of(self.storage, id)).items():
            self._keep(each, state)

    async def look_at_all(self) -> None:
        """Learns how all agents stand, if anything has changed."""
        changes = await self.storage.changes()
        for id in changes.keys() | self._changes.keys():
            if changes.get(id) == self._changes.get(id):
                continue
            await self.look(id)
            if id in changes:
                self._changes[id] = changes[id]
            else:
                self._changes.pop(id, None)

    # What is offered.

    def now(self, id: str, code: ServedAgent | None) -> ServedAgent | None:
        """An agent as it is offered; `code` is the one of this id that is declared. None where there is none."""
        state = self._states.get(id, _EMPTY)
        if code is None and (state.stored is None or state.stored.status == "archived"):
            return None
        version = version_of(state, code is not None)
        if code is not None and version is None and state.model is None:
            return code
        return self._served(selected(id, state, code is not None, version, self._below(version)), code)

    def others(self, code: Iterable[str]) -> list[ServedAgent]:
        """The agents of data that are not declared in code, oldest first."""
        found: list[ServedAgent] = []
        stored = [state.stored for id, state in self._states.items() if state.stored is not None and id not in code]
        for each in sorted(stored, key=lambda agent: (agent.created_at, agent.id)):
            try:
                served = self.now(each.id, None)
            except ConfigError as error:
                _log.warning("stored agent %s is not offered: %s", each.id, error)
                continue
            if served is not None:
                found.append(served)
        return found

    async def chosen(
        self, served: ServedAgent, code: ServedAgent | None, selector: Selector, context: Mapping[str, Json]
    ) -> ServedAgent:
        """The version of an agent that is meant. Raises `NoSuchVersionError`."""
        state = self._states.get(served.id, _EMPTY)
        if selector.version_id is not None:
            if state.stored is None:
                raise NoSuchVersionError(f"Version with id {selector.version_id} not found")
            version: Version | None = await self.storage.version(served.id, selector.version_id)
        else:
            version = version_of(state, code is not None, selector.status)
        if code is not None and version is None and state.model is None:
            return code
        found = selected(served.id, state, code is not None, version, self._below(version))
        return self._served(found, code, context)

    async def with_below(
        self, served: ServedAgent, code: ServedAgent | None, versions: Mapping[str, Selector]
    ) -> ServedAgent:
        """An agent with other versions of agents below it; what is not there stays as it is."""
        state = self._states.get(served.id, _EMPTY)
        version = served.selected.version if served.selected is not None else None
        below = self._below(version)
        app = self._app(state)
        for id, selector in versions.items():
            await self.look(id)
            inner = self._states.get(id, _EMPTY)
            found = version_of(inner, id in app.agents, selector.status)
            if selector.version_id is not None and inner.stored is not None:
                try:
                    found = await self.storage.version(id, selector.version_id)
                except NoSuchVersionError:
                    _log.warning("agent %s has no version %s: it stays as it is", id, selector.version_id)
            if found is not None:
                below[id] = selected(id, inner, id in Registry(app).agents, found, {})
        return self._served(selected(served.id, state, code is not None, version, below), code)

    def _below(self, version: Version | None) -> dict[str, Selected]:
        return selected_below(self._states, version, lambda id: any(id in app.agents for app in self.apps))

    def _served(
        self, found: Selected, code: ServedAgent | None, context: Mapping[str, Json] | None = None
    ) -> ServedAgent:
        key = (found.id, None if found.version is None else found.version.id)
        parts = (found, None if code is None else code.given)
        known = None if context else self._offered.get(key)
        if known is not None and known[0] == parts:
            return known[1]
        made = self._made(found, code, context or {})
        made.selected = found
        if not context:
            self._offered[key] = (parts, made)
            while len(self._offered) > KEPT:
                self._offered.popitem(last=False)
        return made

    def _made(self, found: Selected, code: ServedAgent | None, context: Mapping[str, Json]) -> ServedAgent:
        app = code.app if code is not None else self._app(State(found.stored, None))
        home = serve_stored_agents(app)
        if code is None:
            agent: Json = home.durable(found) if found.durable else home.plain(found, context)
            made = self._make(agent, app)
            made = _with_runs_of(made, self._first.setdefault(found.id, made))
        elif declared_of(code.given) is None:
            _log.warning("agent %s is of another make: what is stored of it changes nothing", code.id)
            return code
        elif isinstance(code.given, DurableAgent):
            made = copy.copy(code)
            made.run = home.durable(found, code.given)
            made.declared = made.run.agent
        else:
            return self._over(copy.copy(code), code, found, home, context)
        if made.durable and context:
            # What it is told to be for this request; its runs find that out by themselves.
            made.declared = home.plain(found, context)
        return made

    def _over(
        self, made: ServedAgent, code: ServedAgent, found: Selected, home: StoredHome, context: Mapping[str, Json]
    ) -> ServedAgent:
        agent = home.plain(found, context)
        if isinstance(agent.memory, Memory):
            agent.memory = agent.memory.use(code.storage)
        made.run = made.declared = agent
        agent.surroundings = code.run.surroundings
        return _with_runs_of(made, code)

    def _app(self, state: State) -> App:
        return self.app_of("" if state.stored is None else state.stored.app_id)

    def _keep(self, id: str, state: State) -> None:
        self._states.pop(id, None)
        if not state.is_empty:
            self._states[id] = state
        else:
            self._first.pop(id, None)
        while len(self._states) > KEPT:
            gone, _ = self._states.popitem(last=False)
            # What was let go of is to be found by the next look at all.
            self._changes.pop(gone, None)


def _with_runs_of(made: ServedAgent, known: ServedAgent) -> ServedAgent:
    """A version whose runs in this process are those of the agent: a question is asked of the agent."""
    made.suspended = known.suspended
    if isinstance(made.run, Agent) and isinstance(known.run, Agent):
        share_runs(made.run, known.run)
    return made

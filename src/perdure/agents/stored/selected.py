"""Which version of an agent a request means, and what the agent is then.

An agent of data is, unless the request says otherwise, its version in force, or its newest one while none is; one that
is declared in code is as its code says while no version is in force. A `Selected` is that choice:
what it is for a request follows from the request's context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from perdure.agents.stored.building import Variant
from perdure.agents.stored.config import resolved
from perdure.agents.stored.rules import variants_of
from perdure.agents.stored.storage import StoredAgent, StoredAgents, Version
from perdure.model.json import Json

_NAMES: Final = ("versionId", "status")


class Selector(msgspec.Struct, frozen=True):
    """What a request says about the version: its id, or a status; neither means the one in force."""

    version_id: str | None = None
    status: str | None = None


def selectors_of(body: Mapping[str, Json]) -> dict[str, Selector]:
    """Which versions of agents below it a request for a run wants, by their ids. What is no selector is let pass.

    >>> selectors_of({"versions": {"agents": {"writer": {"status": "draft"}}}})["writer"].status
    'draft'
    """
    versions = body.get("versions")
    agents = versions.get("agents") if isinstance(versions, dict) else None
    found: dict[str, Selector] = {}
    for id, given in agents.items() if isinstance(agents, dict) else ():
        named = given if isinstance(given, dict) else {}
        version, status = (named.get(name) if isinstance(named.get(name), str) else None for name in _NAMES)
        if version or status:
            found[id] = Selector(version, status)
    return found


class State(msgspec.Struct):
    """What is stored of an agent: itself, and which models were chosen for it."""

    stored: StoredAgent | None
    model: dict[str, Json] | None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing."""
        return self.stored is None and self.model is None


class Selected(msgspec.Struct):
    """An agent with a version of its configuration. `below` are agents of data that it may hand tasks to, by id."""

    id: str
    stored: StoredAgent | None
    version: Version | None
    model: dict[str, Json] | None
    in_code: bool
    below: dict[str, Selected]

    @property
    def durable(self) -> bool:
        """Whether runs of an agent of data survive. They do, unless it says otherwise."""
        return self.version is None or self.version.config.get("durable") is not False

    def variant(self, context: Mapping[str, Json]) -> Variant:
        """The agent for a request context."""
        made = self._alone(context)
        made.agents = {id: each._alone(context) for id, each in self.below.items()}
        return made

    def _alone(self, context: Mapping[str, Json]) -> Variant:
        config = {} if self.version is None else resolved(self.version.config, context)
        return Variant(None if self.version is None else self.version.id, config, self.model, self.in_code)


def selected(id: str, state: State, in_code: bool, version: Version | None, below: dict[str, Selected]) -> Selected:
    """An agent with this version."""
    return Selected(id, state.stored, version, state.model, in_code, below)


def version_of(state: State, in_code: bool, status: str | None = None) -> Version | None:
    """The version that is meant where none is named; None where the code alone counts, or nothing is in force."""
    stored = state.stored
    if stored is None or stored.status == "archived":
        return None
    if status == "draft":
        return stored.latest
    return stored.active if in_code else stored.active or stored.latest


def selected_below(
    states: Mapping[str, State], version: Version | None, in_code: Callable[[str], bool]
) -> dict[str, Selected]:
    """The agents of data that a version names, and those that they name, by id."""
    found: dict[str, Selected] = {}
    left = list(keys_below([] if version is None else [version]))
    while left:
        id = left.pop()
        state = states.get(id)
        inner = None if state is None or id in found else version_of(state, in_code(id))
        if state is not None and inner is not None:
            found[id] = selected(id, state, in_code(id), inner, {})
            left += keys_below([inner])
    return found


def keys_below(versions: Iterable[Version]) -> set[str]:
    """The agents that versions name, whatever the request is."""
    return {key for version in versions for each in variants_of(version.config.get("agents")) for key in each}


async def states_of(storage: StoredAgents, id: str) -> dict[str, State]:
    """How an agent stands, and those below it."""
    found: dict[str, State] = {}
    left = [id]
    while left:
        each = left.pop()
        state = found[each] = State(*await storage.state(each))
        stored = state.stored
        versions = [] if stored is None else [stored.latest, *([stored.active] if stored.active else [])]
        left += [key for key in keys_below(versions) if key not in found]
    return found


async def selected_now(storage: StoredAgents, id: str, in_code: Callable[[str], bool]) -> Selected | None:
    """An agent as it is stored now; None where nothing is in force."""
    states = await states_of(storage, id)
    state = states[id]
    version = version_of(state, in_code(id))
    if version is None and (state.model is None or not in_code(id)):
        return None
    return selected(id, state, in_code(id), version, selected_below(states, version, in_code))

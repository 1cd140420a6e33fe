"""Variants of agents: runs whose agent is not the one that is registered, but one that their row says how to make.

A run keeps its variant as data in its row (`AgentRun.detail`), so that whoever goes on with it, after a crash or on
another node, has the same agent, whatever has become of it since. Invariant: a run with a variant is never carried out
by another body.
"""

from __future__ import annotations

from typing import Final, Protocol
from weakref import WeakKeyDictionary

from perdure.agents.durable.body import Body
from perdure.agents.storage import AgentRun, AgentStorage
from perdure.model.errors import NonRetriableError
from perdure.model.json import Json
from perdure.sdk.app import App

VARIANT: Final = "variant"
"""The key of a variant in the input that a run is prepared with, and in the detail of its row."""


class Variants(Protocol):
    """Makes the bodies of variants."""

    def body(self, agent_id: str, variant: dict[str, Json], registered: Body) -> Body:
        """The body of a variant of an agent; the same one for the same data. Raises `ConfigError`."""
        ...

    async def current(self, agent_id: str, registered: Body, storage: AgentStorage) -> Body | None:
        """The body of an agent as it is stored now; None where nothing is, and what is registered counts."""
        ...


_OF_APPS: WeakKeyDictionary[App, Variants] = WeakKeyDictionary()


def keep_variants(app: App, variants: Variants) -> None:
    """Says who makes the bodies of the variants of an app's agents."""
    _OF_APPS[app] = variants


def body_of(app: App, run: AgentRun, registered: Body) -> Body:
    """The body that a run is carried out by. Raises `NonRetriableError` where its app has no variants."""
    variant: Json = run.detail.get(VARIANT)
    if variant is None:
        return registered
    known = _OF_APPS.get(app)
    if known is None:
        raise NonRetriableError(f"run {run.run_id} is one of a stored agent, and app {app.id!r} knows of none")
    return known.body(run.agent_id, variant, registered)


async def current_body(app: App, agent_id: str, registered: Body, storage: AgentStorage) -> Body | None:
    """The body with which a new run of an agent begins; None where there is no such agent."""
    known = _OF_APPS.get(app)
    found = None if known is None else await known.current(agent_id, registered, storage)
    return registered if found is None and registered.id == agent_id else found

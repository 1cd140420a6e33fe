"""Agents whose runs survive: `create_durable_agent` and its siblings."""

from __future__ import annotations

from perdure.agents.durable.accelerators import Cache, PubSub
from perdure.agents.durable.agent import DurableAgent
from perdure.agents.durable.factories import (
    AgentOptions,
    EventedAgent,
    InngestAgent,
    create_durable_agent,
    create_evented_agent,
    create_inngest_agent,
    is_durable_agent,
    is_evented_agent,
    is_inngest_agent,
)
from perdure.agents.durable.listing import OpenQuestion, SuspendedRun
from perdure.agents.durable.port import AgentRuns
from perdure.agents.durable.reader import StreamInterruptedError
from perdure.agents.durable.remote import RemoteEngine, remote_engine
from perdure.agents.durable.run import DurableRun, Prepared

__all__ = [
    "AgentOptions",
    "AgentRuns",
    "Cache",
    "DurableAgent",
    "DurableRun",
    "EventedAgent",
    "InngestAgent",
    "OpenQuestion",
    "Prepared",
    "PubSub",
    "RemoteEngine",
    "StreamInterruptedError",
    "SuspendedRun",
    "create_durable_agent",
    "create_evented_agent",
    "create_inngest_agent",
    "is_durable_agent",
    "is_evented_agent",
    "is_inngest_agent",
    "remote_engine",
]

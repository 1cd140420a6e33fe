"""Which loop carries a run out: an agent's own, or that of a network, which hands the task to others."""

from __future__ import annotations

from perdure.agents.declared import DeclaredAgent
from perdure.agents.journal import Journal
from perdure.agents.loop import run_loop
from perdure.agents.network import run_network
from perdure.agents.ports import Services
from perdure.agents.run import Run
from perdure.agents.state import RunInput, RunResult


async def drive(
    agent: DeclaredAgent, journal: Journal, request: RunInput, services: Services | None = None
) -> RunResult:
    """Runs an agent to its end, as its input asks for."""
    if request.network:
        return await run_network(Run(agent, journal, request, services or Services()))
    return await run_loop(agent, journal, request, services)

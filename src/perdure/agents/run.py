"""A run as its parts see it: the agent, the journal, the input, and what has been recorded so far.

Invariant: what is memoised here (recalled history, looked-up tools) can be had again, so a replay may begin anew.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

from perdure.agents.declared import DeclaredAgent
from perdure.agents.journal import Journal
from perdure.agents.models import Models, resolve
from perdure.agents.options import Policy
from perdure.agents.ports import Recalled, Services
from perdure.agents.processors import ProcessorContext
from perdure.agents.scoring import Judge, chosen
from perdure.agents.state import RunInput, RunState
from perdure.agents.toolbox import ToolBox
from perdure.model.json import Json


class Run:
    """One execution of a run's loop."""

    def __init__(self, agent: DeclaredAgent, journal: Journal, request: RunInput, services: Services) -> None:
        self.agent = agent
        self.journal = journal
        self.request = request
        self.options = request.options
        self.services = services
        self.state = RunState(request)
        self.box = ToolBox(agent, request.options, services.closures)
        self.max_steps = request.options.max_steps or agent.max_steps
        self.recalled: Recalled | None = None

    @property
    def run_id(self) -> str:
        return self.request.run_id

    def is_last(self, number: int) -> bool:
        """Whether no step may come after step `number`; a turn for the sake of background tasks counts anew."""
        return number + 1 - self.state.begun_at >= self.max_steps

    def models(self, spec: Json = None) -> Models:
        """The models of this run: those of the step, of the run, or of the agent."""
        for found in (spec, self.services.closures.model, self.options.model):
            if found is not None:
                return resolve(found, self.agent.max_retries)
        return self.agent.models

    def policy(self, name: str | None) -> Policy | None:
        """The policy that an option names: the agent's, or what only this run was given."""
        if name is None:
            return None
        return self.services.closures.policies.get(name) or self.agent.policy(name)

    def judges(self) -> dict[str, Judge]:
        """The scorers of this run."""
        return chosen(self.agent.scorers, self.options.scorers, self.run_id)

    async def recall(self) -> Recalled | None:
        """What the memory knows from before this run, and the memory's tools. Inside a step."""
        memory = self.services.memory
        if memory is not None and self.recalled is None:
            first = self.state.turns[0] if self.state.turns else None
            own = {message.id for message in [*self.state.input, *self.state.response()]}
            own |= {self.state.message_id(number) for number in range(len(self.state.turns) + 1)}
            until = first.until if first is not None else None
            self.recalled = await memory.load(self.state.input, exclude=own, until=until)
            self.box.recall(self.recalled.tools)
        return self.recalled

    def processor_context(self, step: int) -> Callable[[str], ProcessorContext]:
        """Makes the context of a processor."""
        retries = self.state.retries()
        return lambda id: ProcessorContext(id, self.run_id, step, self.options.request_context, retries)


async def decided(policy: Policy, *args: Json) -> Json:
    """What a policy gives, called with as many of the arguments as it takes."""
    try:
        parameters = inspect.signature(policy).parameters.values()
    except (TypeError, ValueError):
        given = args
    else:
        several = any(item.kind is item.VAR_POSITIONAL for item in parameters)
        count = sum(item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD) for item in parameters)
        given = args if several else args[:count]
    found = policy(*given)
    return await found if inspect.isawaitable(found) else found

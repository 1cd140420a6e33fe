"""The configuration of an agent that is declared in code, as far as it is data: what a clone of it begins with."""

from __future__ import annotations

from perdure.agents.declared import DeclaredAgent
from perdure.agents.memory import Memory
from perdure.agents.scoring import Scorer
from perdure.model.json import Json
from perdure.server.agents.details import plain_options
from perdure.server.agents.served import ServedAgent


async def config_in_code(served: ServedAgent | None) -> dict[str, Json]:
    """The configuration of an agent, as its code has it; instructions as they are without a request context."""
    if served is None:
        return {}
    config: dict[str, Json] = {"name": served.name}
    found = served.declared
    if found is None:
        return {**config, "instructions": ""}
    if found.description:
        config["description"] = found.description
    config["instructions"] = "\n\n".join(await found.get_instructions({}))
    config["model"] = {"provider": found.models.provider, "name": found.models.model_id}
    config |= {field: parts for field, parts in _parts(found).items() if parts}
    if isinstance(found.memory, Memory):
        config["memory"] = _memory(found.memory)
    return config


def _parts(found: DeclaredAgent) -> dict[str, Json]:
    return {
        "tools": {key: {} for key in found.tools},
        "agents": {agent.id: {} for agent in found.agents.values()},
        "workflows": {key: {} for key in found.workflows},
        "scorers": {key: _sampling(each) for key, each in found.scorers.items()},
        "defaultOptions": plain_options(found.default_options),
    }


def _sampling(scorer: Scorer) -> dict[str, Json]:
    return {} if scorer.share == 1 else {"sampling": {"type": "ratio", "rate": scorer.share}}


def _memory(memory: Memory) -> dict[str, Json]:
    shown = memory.config()
    options = {name: shown[name] for name in ("lastMessages", "generateTitle") if name in shown}
    return {"options": options}

"""What may be wrong with the parts that an agent is declared with, so that it shows at its making and not in a run.

Each check gives texts that name the field and say the fix; nothing is raised here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from perdure.agents.processors import PHASES
from perdure.model.json import Json
from perdure.sdk.function import Function

_KEY: Final = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
"""Keys of sub-agents and workflows become names of tools."""


def bad_parts(agents: Mapping[str, Json], kind: type, workflows: Mapping[str, Json]) -> Iterator[str]:
    """Faults of sub-agents, which are of `kind`, and of workflows."""
    for field, parts in (("agents", agents), ("workflows", workflows)):
        for key in parts:
            if not _KEY.fullmatch(str(key)):
                yield f"{field}.{key}: a key must be 1 to 100 letters, digits, or _ - . :, as models call it by it"
    for key, agent in agents.items():
        if not isinstance(agent, kind):
            yield f"agents.{key}: must be an Agent, got {agent!r}"
    for key, function in workflows.items():
        if not isinstance(function, Function):
            yield f"workflows.{key}: must be a function of an app (@app.function), got {function!r}"


def bad_texts(name: Json, description: Json, instructions: Json) -> Iterator[str]:
    """Faults of what is to be text."""
    for field, value in (("name", name), ("description", description)):
        if not isinstance(value, str):
            yield f"{field}: must be a text, got {value!r}"
    texts = isinstance(instructions, Sequence) and all(isinstance(item, str) for item in instructions)
    if not texts and not callable(instructions):
        yield f"instructions: must be a text, several, or a function of the request context, got {instructions!r}"


def bad_surroundings(
    memory: Json, processors: Mapping[str, Sequence[Json]], policies: Mapping[str, Json], toolsets: Mapping[str, Json]
) -> Iterator[str]:
    """Faults of the memory, the processors (by field), the policies and the toolsets."""
    if memory is not None and not callable(getattr(memory, "scope", None)):
        yield f"memory: must be a Memory, got {memory!r}"
    for field, items in processors.items():
        for place, item in enumerate(items):
            if not any(callable(getattr(item, phase, None)) for phase in PHASES):
                yield f"{field}[{place}]: has none of {', '.join(PHASES)}: {item!r}"
    for name, item in policies.items():
        if not callable(item):
            yield f"policies.{name}: must be a function, got {item!r}"
    for name, item in toolsets.items():
        if not isinstance(item, Mapping | list | tuple) and not callable(getattr(item, "tools", None)):
            yield f"toolsets.{name}: must be a toolset (McpToolset for instance) or tools, got {item!r}"


def bad_options(check: Callable[[], object]) -> Iterator[str]:
    """Faults of the default options, which `check` reads as those of a run."""
    try:
        check()
    except ValueError as error:
        yield f"default_options.{error}"

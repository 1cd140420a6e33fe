"""What a configuration is: its fields, what each may hold, and how it is for a request.

A configuration is a JSON object with the names of the agents protocol. It is kept as it was given; `resolved` makes of
it what a request sees: conditions decided, texts filled in. Invariant: a resolved configuration has no conditions, so
that it can travel with a run.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from perdure.agents.stored.rules import chosen, filled, holds, is_conditional
from perdure.model.json import Json

FIELDS: Final[tuple[str, ...]] = (
    "name",
    "description",
    "instructions",
    "model",
    "tools",
    "defaultOptions",
    "workflows",
    "agents",
    "integrationTools",
    "toolProviders",
    "mcpClients",
    "inputProcessors",
    "outputProcessors",
    "memory",
    "scorers",
    "skills",
    "workspace",
    "browser",
    "requestContextSchema",
    "durable",
)
"""The fields that have versions, in the order in which they are told."""
FIRST_FIELDS: Final = FIELDS[:-1]
"""The fields that count as changed by a first version, whatever it has."""
KEPT_ONLY: Final = ("integrationTools", "toolProviders", "mcpClients", "skills", "workspace", "browser")
"""Those that are kept and told, and change nothing here."""
MAX_MESSAGE: Final = 500
MAX_BYTES: Final = 512 * 1024
"""Of a configuration: it travels with each run."""
_NAMED: Final = ("tools", "workflows", "agents", "scorers")
_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "name": (str,),
    "description": (str,),
    "instructions": (str, list),
    "model": (dict,),
    "browser": (dict, bool),
    "durable": (bool, dict),
}
_TEXTS: Final = {str: "string", list: "array", dict: "object", bool: "boolean"}
_ID: Final = re.compile(r"[A-Za-z0-9]+(?:[-_.]+[A-Za-z0-9]+)*")
_OTHER: Final = re.compile(r"[^a-z0-9]+")


class Fault(NamedTuple):
    """A field that is wrong, and why."""

    field: str
    message: str


def slug_of(name: str) -> str:
    """The id of an agent that has none.

    >>> slug_of("Slug Me Please!")
    'slug-me-please'
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return _OTHER.sub("-", plain).strip("-")


def is_id(id: str) -> bool:
    """Whether a text may be the id of an agent."""
    return len(id) <= 120 and _ID.fullmatch(id) is not None


def faults(config: Mapping[str, Json], *, nullable: tuple[str, ...] = ()) -> Iterator[Fault]:
    """What is wrong with fields of a configuration; the `nullable` ones may be null."""
    for field in FIELDS:
        if field not in config or (config[field] is None and field in nullable):
            continue
        value = config[field]
        kinds = _KINDS.get(field, (dict,))
        if is_conditional(value) and field not in ("name", "description", "instructions"):
            for place, each in enumerate(value):
                yield from _value_faults(f"{field}.{place}.value", field, each["value"], kinds)
                yield from _rule_faults(f"{field}.{place}.rules", each.get("rules"))
        else:
            yield from _value_faults(field, field, value, kinds)


def _value_faults(where: str, field: str, value: Json, kinds: tuple[type, ...]) -> Iterator[Fault]:
    fits = isinstance(value, kinds)
    if not fits:
        expected = " or ".join(_TEXTS[kind] for kind in kinds)
        yield Fault(where, f"Invalid input: expected {expected}, received {kind_of(value)}")
    elif field in _NAMED:
        yield from (
            Fault(f"{where}.{key}", f"Invalid input: expected object, received {kind_of(each)}")
            for key, each in value.items()
            if not isinstance(each, dict)
        )
        yield from _sampling_faults(where, value) if field == "scorers" else ()
    elif field == "model":
        yield from (
            Fault(f"{where}.{name}", f"Invalid input: expected string, received {kind_of(value.get(name))}")
            for name in ("provider", "name")
            if not isinstance(value.get(name), str) or not value[name]
        )
    elif field == "instructions" and isinstance(value, list):
        yield from _block_faults(value)
    elif field == "memory":
        yield from _memory_faults(where, value)
    elif field in ("inputProcessors", "outputProcessors"):
        yield from _graph_faults(where, value)


def _graph_faults(where: str, graph: dict[str, Json]) -> Iterator[Fault]:
    steps = graph.get("steps")
    if not isinstance(steps, list):
        yield Fault(f"{where}.steps", f"Invalid input: expected array, received {kind_of(steps)}")
        return
    for place, entry in enumerate(steps):
        inner: list[tuple[str, Json]] = []
        if isinstance(entry, dict):
            inner = [(f"branches.{at}", {"steps": each}) for at, each in enumerate(entry.get("branches") or [])]
            inner += [(f"conditions.{at}", each) for at, each in enumerate(entry.get("conditions") or [])]
        if not inner and not (isinstance(entry, dict) and isinstance(entry.get("step"), dict)):
            yield Fault(f"{where}.steps.{place}", "must be a step, branches or conditions")
        for name, each in inner:
            if isinstance(each, dict):
                yield from _graph_faults(f"{where}.steps.{place}.{name}", each)
            else:
                yield Fault(f"{where}.steps.{place}.{name}", "must be an object")


def _memory_faults(where: str, memory: dict[str, Json]) -> Iterator[Fault]:
    options = memory.get("options")
    if options is not None and not isinstance(options, dict):
        yield Fault(f"{where}.options", f"Invalid input: expected object, received {kind_of(options)}")
    embedder = memory.get("embedder")
    if embedder is not None and not isinstance(embedder, str):
        yield Fault(f"{where}.embedder", f"Invalid input: expected string, received {kind_of(embedder)}")


def _sampling_faults(where: str, scorers: dict[str, Json]) -> Iterator[Fault]:
    for key, scorer in scorers.items():
        sampling = scorer.get("sampling") if isinstance(scorer, dict) else None
        if sampling is None or (isinstance(sampling, dict) and sampling.get("type") == "none"):
            continue
        rate = sampling.get("rate") if isinstance(sampling, dict) and sampling.get("type") == "ratio" else None
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
            yield Fault(f"{where}.{key}.sampling", 'must be {"type": "none"} or {"type": "ratio", "rate": 0 to 1}')


def _block_faults(blocks: list[Json]) -> Iterator[Fault]:
    for place, block in enumerate(blocks):
        kind = block.get("type") if isinstance(block, dict) else None
        needed = {"text": "content", "prompt_block": "content", "prompt_block_ref": "id"}.get(str(kind))
        if needed is None or not isinstance(block.get(needed), str):
            yield Fault(f"instructions.{place}", "must be a block: text, prompt_block or prompt_block_ref")
        else:
            yield from _rule_faults(f"instructions.{place}.rules", block.get("rules"))


def _rule_faults(where: str, rules: Json, depth: int = 3) -> Iterator[Fault]:
    if rules is None:
        return
    group = isinstance(rules, dict) and rules.get("operator") in ("AND", "OR")
    if not group or not isinstance(rules.get("conditions"), list) or depth == 0:
        yield Fault(where, 'must be {"operator": "AND" or "OR", "conditions": [...]}, three levels deep at most')
        return
    for place, each in enumerate(rules["conditions"]):
        if isinstance(each, dict) and "conditions" in each:
            yield from _rule_faults(f"{where}.conditions.{place}", each, depth - 1)
        elif not isinstance(each, dict) or not all(isinstance(each.get(name), str) for name in ("field", "operator")):
            yield Fault(f"{where}.conditions.{place}", "must have a field, an operator and a value")


def resolved(config: Mapping[str, Json], context: Mapping[str, Json]) -> dict[str, Json]:
    """A configuration as it is for a request context.

    >>> resolved({"name": "A", "instructions": "Hello {{who}}."}, {"who": "Ada"})
    {'name': 'A', 'instructions': 'Hello Ada.'}
    """
    found = {field: chosen(value, context) for field, value in config.items() if field != "instructions"}
    for field in ("inputProcessors", "outputProcessors"):
        if found.get(field) is not None:
            found[field] = {"steps": list(_steps(found[field], context))}
    if "instructions" in config:
        found["instructions"] = instructions_of(config["instructions"], context)
    return {field: found[field] for field in config if found[field] is not None}


def _steps(graph: Json, context: Mapping[str, Json]) -> Iterator[Json]:
    """The steps of a graph of processors, in order. Branches beside each other come one after the other."""
    for entry in graph.get("steps") or [] if isinstance(graph, dict) else []:
        if entry.get("type") == "step" and isinstance(entry.get("step"), dict):
            yield {"type": "step", "step": entry["step"]}
        for branch in entry.get("branches") or []:
            yield from _steps({"steps": branch}, context)
        for condition in entry.get("conditions") or []:
            if holds(condition.get("rules"), context):
                yield from _steps(condition, context)


def instructions_of(given: Json, context: Mapping[str, Json]) -> str:
    """Instructions as one text: blocks that hold, filled in, with an empty line between them."""
    blocks = [{"content": given}] if isinstance(given, str) else given
    held = [block for block in blocks if holds(block.get("rules"), context)]
    texts = [filled(block["content"], context) for block in held if isinstance(block.get("content"), str)]
    return "\n\n".join(text for text in texts if text)


def kind_of(value: Json) -> str:
    """What a JSON value is called in messages."""
    if value is None:
        return "null"
    return next((name for kind, name in _TEXTS.items() if type(value) is kind), "number")

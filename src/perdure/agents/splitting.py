"""A call's options, taken apart: what is data, what is a named policy, and what only this process has.

Invariant: what cannot be taken is refused here, before a run begins; `OptionError` names the option and the fix.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import msgspec

from perdure.agents.models import ModelError, Models, resolve
from perdure.agents.options import (
    CALLBACKS,
    POLICIES,
    Callbacks,
    Closures,
    NonPortableOptionError,
    NonPortableOptionWarning,
    OptionError,
    Policy,
    RunKeywords,
    RunOptions,
    StructuredOutput,
)
from perdure.agents.schemas import Shape
from perdure.agents.tools import tools_by_name
from perdure.model.errors import ConfigError
from perdure.model.json import Json


@dataclass
class SplitOptions:
    """The three kinds of options, apart; and the run id that was asked for."""

    data: RunOptions
    callbacks: Callbacks
    closures: Closures
    run_id: str | None


def split_options(
    keywords: RunKeywords,
    *,
    policies: Mapping[str, Policy],
    toolsets: Mapping[str, Json],
    durable: bool = False,
    strict: bool = False,
) -> SplitOptions:
    """The options of a call, checked and taken apart.

    A function that is registered in `policies` becomes its name. Any other is a closure: in a durable run it is warned
    of (`NonPortableOptionWarning`), or refused where the run is strict. Raises `OptionError`.
    """
    given: dict[str, Json] = {name: value for name, value in keywords.items() if value is not None}
    for name in given.keys() - RunKeywords.__annotations__.keys():
        near = get_close_matches(name, RunKeywords.__annotations__, n=1)
        raise OptionError(f"{name}: is no option" + (f"; did you mean {near[0]}?" if near else ""))
    for name in CALLBACKS:
        if name in given and not callable(given[name]):
            raise OptionError(f"{name}: must be a function, got {given[name]!r}")
    callbacks = Callbacks(**{name: given.pop(name) for name in CALLBACKS if name in given})
    closures = Closures()
    run_id = given.pop("run_id", None)
    if run_id is not None and (not isinstance(run_id, str) or not 0 < len(run_id) <= 256):
        raise OptionError(f"run_id: must be a text of 1 to 256 characters, got {run_id!r}")
    _name_policies(given, policies, closures)
    _split_objects(given, toolsets, closures)
    if durable:
        _warn(closures, strict)
    return SplitOptions(RunOptions.from_json(_camel(given)), callbacks, closures, run_id)


def _name_policies(given: dict[str, Json], policies: Mapping[str, Policy], closures: Closures) -> None:
    for option in POLICIES:
        value = given.get(option)
        if isinstance(value, str) and value not in policies:
            known = ", ".join(sorted(policies)) or "none"
            raise OptionError(f"{option}: no policy {value!r} is registered with the agent; there are: {known}")
        if callable(value):
            name = next((name for name, known in policies.items() if known is value), None)
            if name is None:
                # The run's data names the option itself: `Closures` knows the function under that name.
                name = f"@{option}"
                closures.policies[name] = value
            given[option] = name


def _split_objects(given: dict[str, Json], toolsets: Mapping[str, Json], closures: Closures) -> None:
    if isinstance(given.get("system"), str):
        given["system"] = [given["system"]]
    if "request_context" in given:
        if not isinstance(given["request_context"], Mapping):
            raise OptionError(f"request_context: must be an object, got {given['request_context']!r}")
        given["request_context"] = dict(given["request_context"])
    if "model" in given and not _named(given["model"]):
        closures.model = _resolved(given.pop("model"))
    if "scorers" in given:
        given["scorers"] = _shares(given["scorers"])
    if "client_tools" in given:
        given["client_tools"] = _client_tools(given["client_tools"])
    if "structured_output" in given:
        given["structured_output"] = _structured(given["structured_output"], closures)
    if "toolsets" in given:
        given["toolsets"] = _toolsets(given["toolsets"], toolsets, closures)


def _named(model: Json) -> bool:
    """Whether a model, or each of a list, is told by its name: then it is data."""
    if isinstance(model, list):
        return all(map(_named, model))
    return isinstance(model, str) or (isinstance(model, dict) and isinstance(model.get("model"), str))


def _resolved(model: Json) -> Models:
    try:
        return resolve(model)
    except ModelError as error:
        raise OptionError(str(error)) from error


def _shares(value: Json) -> Json:
    """Scorers by name, with their shares of runs: also as `{name: {"sampling": {"type": "ratio", "rate": 0.5}}}`."""
    if isinstance(value, list | tuple):
        return dict.fromkeys(value, 1.0)
    if not isinstance(value, Mapping):
        raise OptionError(f"scorers: must be names, or shares of runs by name, got {value!r}")
    return {name: _share(item) for name, item in value.items()}


def _share(item: Json) -> Json:
    if not isinstance(item, Mapping):
        return item
    sampling = item.get("sampling") or {}
    return sampling.get("rate", 1.0) if sampling.get("type", "none") == "ratio" else 1.0


def _client_tools(value: Json) -> dict[str, Json]:
    if isinstance(value, Mapping) and all(isinstance(item, Mapping) for item in value.values()):
        return {name: dict(item) for name, item in value.items()}
    if not isinstance(value, Mapping | list | tuple):
        raise OptionError(f"client_tools: must be tools by name, got {value!r}")
    try:
        found = tools_by_name(value)
    except ConfigError as error:
        raise OptionError(f"client_tools: {error}") from error
    return {name: {"description": item.description, "inputSchema": item.input_schema} for name, item in found.items()}


def _structured(value: Json, closures: Closures) -> dict[str, Json]:
    if isinstance(value, StructuredOutput):
        plain: dict[str, Json] = msgspec.to_builtins(value)
        return plain
    options = dict(value) if isinstance(value, Mapping) and "schema" in value else {"schema": value}
    if not isinstance(options["schema"], Mapping):
        closures.output_shape = Shape(options["schema"])
        try:
            options["schema"] = closures.output_shape.schema
        except ConfigError as error:
            raise OptionError(f"structured_output: {error}") from error
    return _camel(options)


def _toolsets(value: Json, registered: Mapping[str, Json], closures: Closures) -> list[str]:
    """Names of registered toolsets; tools and toolsets given as objects are closures."""
    if not isinstance(value, Mapping | list | tuple):
        raise OptionError(f"toolsets: must be names of toolsets, or toolsets, got {value!r}")
    names: list[str] = []
    items = value.values() if isinstance(value, Mapping) else value
    for item in items:
        if isinstance(item, str):
            if item not in registered:
                raise OptionError(f"toolsets: none {item!r} is registered with the agent: Agent(toolsets={{...}})")
            names.append(item)
        elif isinstance(item, Mapping | list | tuple):
            closures.tools |= tools_by_name(item)
        else:
            name = next((name for name, known in registered.items() if known is item), None)
            if name is None:
                closures.toolsets.append(item)
            else:
                names.append(name)
    return names


def _warn(closures: Closures, strict: bool) -> None:
    names = [name.removeprefix("@") for name in closures.names()]
    if not names:
        return
    listed = ", ".join(names)
    text = (
        f"{listed}: a durable run may move to another process, which does not have what was given here; "
        "register it with the agent (policies=, toolsets=, tools=), or give data"
    )
    if strict:
        raise NonPortableOptionError(text)
    warnings.warn(NonPortableOptionWarning(text), stacklevel=4)


def _camel(given: Mapping[str, Json]) -> dict[str, Json]:
    return {_camel_name(name): value for name, value in given.items()}


def _camel_name(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)

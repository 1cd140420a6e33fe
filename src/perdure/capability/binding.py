"""The variables of a capability: what its binds bring in from the environment, from files and from whoever runs it.

A bind that templates use and nothing gives is an error before anything is served, so that no request goes out without
the credentials that the document means. One that nothing uses may be missing.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping

from perdure.capability.findings import Findings
from perdure.capability.locations import file_of
from perdure.capability.model import Bind, Capability
from perdure.capability.source import DocumentError, parse
from perdure.capability.templates import TemplateError, names
from perdure.model.json import Json

_VARIABLE = re.compile(r"(?:[A-Za-z][\w-]*\.)?[A-Z][A-Z0-9_]+\Z")


class Variables:
    """The values of variables, by bare and by qualified name, and who declares which."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self.declared: set[str] = set()
        self.unused: set[str] = set()

    def declare(self, bind: Bind, name: str, value: str | None) -> None:
        """Takes over a variable of a bind; the first of two with the same bare name has it."""
        for known in (f"{bind.namespace}.{name}", name):
            self.declared.add(known)
            if value is not None:
                self._values.setdefault(known, value)

    def add(self, name: str, value: str | None) -> None:
        """Takes over a variable that no bind declares."""
        for known in (name, name.rpartition(".")[2]):
            self.declared.add(known)
            if value is not None:
                self._values.setdefault(known, value)

    def __call__(self, name: str) -> str:
        """The value of a variable; raises `KeyError`."""
        return self._values[name.removeprefix("$env.")]

    def default_for(self, parameter: str) -> str | None:
        """The value of a bound variable that nothing uses and that is named after a parameter.

        `INNGEST_EVENT_KEY` is for `eventKey`: its author meant it for something.
        """
        wanted = "".join(f"_{char}" if char.isupper() else char.upper() for char in parameter.replace("-", "_")).upper()
        if "_" not in wanted:
            return None
        for name in sorted(self.unused):
            if name == wanted or name.endswith(f"_{wanted}"):
                return self._values.get(name)
        return None

    def constant(self, text: Json) -> Json:
        """The value of a text that is exactly the name of a variable, as some documents write it; else itself."""
        return self._values.get(text, text) if isinstance(text, str) and text in self.declared else text


def resolve(
    capability: Capability,
    findings: Findings,
    *,
    environment: Mapping[str, str],
    given: Mapping[str, str],
    load: Callable[[str], str],
    needed: bool = True,
) -> Variables:
    """The variables of a capability; if they are `needed`, missing ones are found as errors. `given` are set by hand
    and come first."""
    used = _used(findings.source.data) | _used(findings.source.imported)
    used |= {name for settings in _credentials(capability) for name in _texts(settings)}
    variables = Variables()
    seen: set[str] = set()
    for bind in capability.binds:
        if bind.namespace in seen:
            findings.error(bind.at, "duplicate-name", f"there is another bind {bind.namespace} before it")
        seen.add(bind.namespace)
        provider = _provider(bind, findings, environment, load if needed else None)
        for name, key in bind.keys.items():
            qualified = f"{bind.namespace}.{name}"
            is_used = bool({name, qualified, f"$env.{name}"} & used)
            value = given.get(qualified) or given.get(name) or provider.get(key) or provider.get(name)
            if not value and is_used and needed:
                findings.error((*bind.at, "keys", name), "missing-bind", _missing(bind, name, key))
            if not is_used:
                variables.unused.add(name)
                told = f"nothing uses {name}; it is the default of a parameter of that name"
                findings.warning((*bind.at, "keys", name), "unused-bind", told)
            variables.declare(bind, name, value or None)
    for name in sorted(_undeclared(capability, findings, variables)):
        # Its author means a variable of the environment, and forgot to say so.
        key = name.rpartition(".")[2]
        value = given.get(name) or given.get(key) or environment.get(key)
        findings.warning((), "undeclared-bind", f"no bind declares {name}; perdure takes it from the environment")
        if not value and needed:
            told = f"{name} has no value: set {key} in the environment, or give --set {key}=VALUE"
            findings.error((), "missing-bind", told)
        variables.add(name, value or None)
    return variables


def _undeclared(capability: Capability, findings: Findings, variables: Variables) -> set[str]:
    """Names in templates that are written like variables, or can be nothing else, and that no bind declares."""
    everywhere = _template_names([findings.source.data, findings.source.imported])
    found = {name for name in everywhere if _VARIABLE.match(name.removeprefix("$env."))}
    found |= {name for settings in _credentials(capability) for name in _template_names(settings)}
    return {name.removeprefix("$env.") for name in found} - variables.declared


def _credentials(capability: Capability) -> list[Json]:
    found = [each.authentication for each in capability.consumers]
    found += [each.authentication for each in capability.exposures]
    return [each.settings for each in found if each is not None]


def _template_names(data: Json) -> Iterator[str]:
    if isinstance(data, dict):
        for key, value in data.items():
            if key not in ("info", "description"):
                yield from _template_names(value)
    elif isinstance(data, list):
        for value in data:
            yield from _template_names(value)
    elif isinstance(data, str):
        with contextlib.suppress(TemplateError):
            yield from names(data)
        if data.startswith("$env."):
            yield data


def _missing(bind: Bind, name: str, key: str) -> str:
    if bind.location:
        return f"{name} has no value: {bind.location} has no {key}; add it there, or give --set {name}=VALUE"
    return f"{name} has no value: set {key} in the environment, or give --set {name}=VALUE"


def _provider(
    bind: Bind, findings: Findings, environment: Mapping[str, str], load: Callable[[str], str] | None
) -> Mapping[str, str]:
    """What a bind takes its values from; without `load` files are not read."""
    if not bind.location:
        return environment
    try:
        path = file_of(bind.location)
    except ValueError:
        told = f"perdure reads binds from the environment and from files, not from {bind.location}"
        findings.error((*bind.at, "location"), "unknown-location", told)
        return {}
    if load is None:
        return {}
    try:
        data = parse(load(path), bind.location).data
    except OSError as error:
        findings.error(
            (*bind.at, "location"), "missing-file", f"cannot read {bind.location}: {error.strerror or error}"
        )
        return {}
    except DocumentError as error:
        findings.error((*bind.at, "location"), "bad-file", f"{bind.location}: line {error.line}: {error.reason}")
        return {}
    pairs = data if isinstance(data, dict) else {}
    return {key: str(value) for key, value in pairs.items() if not isinstance(value, dict | list) and value is not None}


def _used(data: Json) -> set[str]:
    """The names that templates use, and texts that are exactly a name, outside of the declarations themselves."""
    if isinstance(data, dict):
        return set[str]().union(*(_used(value) for key, value in data.items() if key not in ("binds", "info")))
    if isinstance(data, list):
        return set[str]().union(*map(_used, data))
    return set(_texts(data))


def _texts(data: Json) -> Iterator[str]:
    if isinstance(data, dict):
        for value in data.values():
            yield from _texts(value)
    elif isinstance(data, str):
        yield data
        try:
            yield from names(data)
        except TemplateError:
            # The checks tell it, where it stands.
            return

"""Capabilities ready to be served: files opened, variables found, upstreams placed, adapters grouped by port."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from perdure.capability.admitting import Admission, check_admission
from perdure.capability.calling import Caller
from perdure.capability.findings import CapabilityError, Finding
from perdure.capability.loading import Opened, open_file
from perdure.capability.model import Exposure
from perdure.capability.performing import Performer
from perdure.capability.rest import Face
from perdure.capability.script_steps import steps_of
from perdure.capability.scripts import Processes
from perdure.capability.source import DocumentError
from perdure.capability.upstream import Upstream

HOSTED = frozenset({"api.inngest.com", "inn.gs", "app.inngest.com"})
"""Hosts of the service whose API perdure has: what a document consumes from there is asked of perdure by default."""


class Options(msgspec.Struct, kw_only=True):
    """What whoever runs capabilities chose: `base_uris` by namespace, "" for all; `server` is asked for `HOSTED`."""

    rest_port: int | None = None
    mcp_port: int | None = None
    base_uris: Mapping[str, str] = {}
    given: Mapping[str, str] = {}
    strict: bool = False
    scripts: bool = False
    """Whether scripts of documents may run."""
    server: str = "http://127.0.0.1:8288"


class Running(msgspec.Struct):
    """One capability that can be served."""

    opened: Opened
    performer: Performer
    placed: dict[str, str]
    """Upstreams that are somewhere else than the document says, by namespace."""


class Listener(msgspec.Struct, kw_only=True):
    """What one port serves: adapters of one kind."""

    kind: str
    address: str
    port: int
    faces: list[Face]


def prepare(
    files: Sequence[Path], options: Options, environment: Mapping[str, str], upstream: Upstream
) -> list[Running]:
    """Opens files. Raises `CapabilityError` with everything that keeps them from running, and `OSError`."""
    running: list[Running] = []
    bad: list[Finding] = []
    for file in files:
        try:
            opened = open_file(file)
        except DocumentError as error:
            bad.append(Finding(str(file), error.line, "error", "not-yaml", error.reason))
            continue
        running.append(_run(opened, options, environment, upstream))
        bad += [each for each in opened.findings.all if options.strict or each.severity == "error"]
    variables = {name for one in running for name in one.performer.caller.variables.declared}
    for name in options.given.keys() - variables if running else ():
        bad.append(Finding(str(files[0]), 1, "error", "unknown-bind", f"--set {name}: no document has that variable"))
    known = {each.namespace for one in running for each in one.opened.capability.consumers}
    for namespace in options.base_uris.keys() - known - {""}:
        told = f"--base-uri {namespace}=...: nothing is consumed under {namespace}; there is {', '.join(sorted(known))}"
        bad.append(Finding(str(files[0]), 1, "error", "unknown-target", told))
    if bad:
        raise CapabilityError(bad)
    return running


def _run(opened: Opened, options: Options, environment: Mapping[str, str], upstream: Upstream) -> Running:
    variables = opened.bind(environment, options.given)
    for exposure in opened.capability.exposures:
        check_admission(exposure, variables, opened.findings)
    placed: dict[str, str] = {}
    for consumer in opened.capability.consumers:
        chosen = options.base_uris.get(consumer.namespace) or options.base_uris.get("")
        if chosen is None and urlsplit(consumer.base_uri).hostname in HOSTED:
            chosen = options.server
        if chosen is not None:
            placed[consumer.namespace] = _moved(consumer.base_uri, chosen)
    performer = Performer(opened.capability, Caller(variables, upstream, placed))
    if options.scripts:
        performer.scripts = Processes(opened.capability.folder)
    elif (script := next(steps_of(opened.capability), None)) is not None:
        told = f"the step {script.name} is a script: look at it, and give --allow-scripts"
        opened.findings.error(script.at, "not-run", told)
    return Running(opened, performer, placed)


def _moved(base: str, to: str) -> str:
    """An address for another server: with its own path if it has one, or else with that of the document.

    >>> _moved("https://api.example/v2", "http://localhost:1"), _moved("https://api.example/v2", "http://localhost:1/x")
    ('http://localhost:1/v2', 'http://localhost:1/x')
    """
    to = to.rstrip("/")
    return to if urlsplit(to).path else to + urlsplit(base).path.rstrip("/")


def clashes(running: Sequence[Running], options: Options) -> list[str]:
    """Routes that several adapters of one port expose: the first one has them, each has its own below its namespace."""
    seen: dict[tuple[int, str, str], str] = {}
    found: list[str] = []
    for one in running:
        for exposure in one.opened.capability.exposures:
            for each in exposure.operations:
                key = (_port(exposure, options), each.method, each.path)
                first = seen.setdefault(key, exposure.namespace)
                if first != exposure.namespace:
                    found.append(
                        f"{each.method} {each.path} is {first}'s; the other is at /{exposure.namespace}{each.path}"
                    )
    return found


def listeners(running: Sequence[Running], options: Options) -> list[Listener]:
    """What to listen on: adapters of the same kind and port together."""
    found: dict[tuple[str, str, int], Listener] = {}
    for one in running:
        for exposure in one.opened.capability.exposures:
            if exposure.kind == "mcp" and exposure.transport == "stdio":
                continue
            port = _port(exposure, options)
            address = "127.0.0.1" if exposure.address == "localhost" else exposure.address
            key = (exposure.kind, address, port)
            listener = found.setdefault(key, Listener(kind=exposure.kind, address=address, port=port, faces=[]))
            listener.faces.append(face(one, exposure, local_only=address in ("127.0.0.1", "::1")))
    return list(found.values())


def face(one: Running, exposure: Exposure, *, local_only: bool) -> Face:
    """An adapter of a capability, with whom it lets in."""
    admission = Admission(exposure, one.performer.caller.variables, local_only=local_only)
    return Face(exposure, one.performer, admission)


def _port(exposure: Exposure, options: Options) -> int:
    chosen = {"rest": options.rest_port, "mcp": options.mcp_port}.get(exposure.kind)
    return exposure.port if chosen is None else chosen

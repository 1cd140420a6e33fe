"""From a document of any version to the model, with a finding for everything that is wrong or had to be guessed.

Lists and maps, `label`, `display` and `title`, `targetName` and `target`, `functions` and `flows`, `naftiko` and
`ikanos` are the same things. Entries may be imported from other files, whose content is given by `load`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from perdure.capability import reading_exposed as exposed
from perdure.capability.fields import Fields
from perdure.capability.findings import Findings
from perdure.capability.locations import file_of
from perdure.capability.model import (
    MAX_REPLY,
    Bind,
    Body,
    Capability,
    ConsumedOperation,
    Consumer,
    Flow,
    Output,
    Parameter,
)
from perdure.capability.reading_parts import authentication, parameters
from perdure.capability.source import DocumentError, Source, parse
from perdure.capability.texts import check_texts
from perdure.model.json import Json

Load = Callable[[str], str]
"""The text of another file, by its location as the document has it; raises `OSError`."""

FORMATS = ("json", "xml", "avro", "protobuf", "csv", "tsv", "psv", "yaml", "html", "markdown", "binary")
_BODIES = ("json", "text", "xml", "sparql", "formUrlEncoded", "multipartForm")
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


def read(source: Source, load: Load) -> tuple[Capability, Findings]:
    """The model of a document, and what was found on the way."""
    findings = Findings(source)
    document = Fields(findings, "document", source.data, ())
    body = Fields(findings, "capability", document.value.get("capability") or {}, ("capability",))
    version = _version(document)
    info = Fields(findings, "info", document.value.get("info") or {}, ("info",))
    for _ in info.each("stakeholders", "stakeholder"):
        pass
    capability = Capability(
        version=version,
        title=info.text("label", "display", "title", "name"),
        description=info.text("description"),
        tags=info.words("tags"),
        revision=info.text("version"),
    )
    sections = _Sections(findings, load)
    for place in (document, body):
        capability.binds += [_bind(each) for each in sections.entries(place, "binds", "bind")]
        capability.consumers += [_consumer(each) for each in sections.entries(place, "consumes", "consumer")]
        for each in sections.entries(place, "aggregates", "aggregate"):
            capability.flows += _flows(each)
        capability.exposures += [exposed.exposure(each) for each in sections.entries(place, "exposes", None)]
    if not document.has("capability") and not any(map(document.has, ("consumes", "exposes", "aggregates", "binds"))):
        findings.error((), "no-capability", "the document has no capability")
    capability.explicit_required = _says_required(source.data)
    return capability, findings


def _version(document: Fields) -> str:
    version = document.text("naftiko", "ikanos")
    if document.has("naftiko") and document.has("ikanos"):
        document.findings.error((), "two-roots", "the document begins with both naftiko and ikanos; keep one")
    if not version:
        document.findings.error((), "missing-key", "the document must say its version: naftiko: 1.0.0-alpha2")
    elif not version.startswith(("0.4", "0.5", "1.0.0")):
        key = "naftiko" if document.has("naftiko") else "ikanos"
        document.findings.warning((key,), "unknown-version", f"version {version} is newer than perdure knows")
    return version


def _says_required(value: Json) -> bool:
    if isinstance(value, dict):
        return value.get("required") is True or any(map(_says_required, value.values()))
    return isinstance(value, list) and any(map(_says_required, value))


class _Sections:
    """The entries of a section, with imported ones in their place."""

    def __init__(self, findings: Findings, load: Load) -> None:
        self._findings = findings
        self._load = load

    def entries(self, place: Fields, section: str, kind: str | None) -> list[Fields]:
        found: list[Fields] = []
        given = place.value.get(section)
        if given is None:
            return []
        if isinstance(given, dict):
            given = [{"namespace": name, **each} if isinstance(each, dict) else each for name, each in given.items()]
        if not isinstance(given, list):
            self._findings.error(place.path(section), "wrong-type", f"{section} must be a list")
            return []
        for position, item in enumerate(given):
            at = (*place.path(section), position)
            if isinstance(item, dict) and "import" in item:
                imported = self._imported(Fields(self._findings, "import", item, at), section, kind)
                found += [] if imported is None else [imported]
            else:
                found.append(Fields(self._findings, kind or _kind(item), item, at))
        return found

    def _imported(self, entry: Fields, section: str, kind: str | None) -> Fields | None:
        location, namespace = entry.text("from", "location", needed=True), entry.text("import")
        if not location:
            return None
        try:
            source = parse(self._load(file_of(location)), location)
        except OSError as error:
            self._findings.error(entry.at, "import-failed", f"cannot read {location}: {error.strerror or error}")
            return None
        except DocumentError as error:
            self._findings.error(
                entry.at, "import-failed", f"cannot read {location}: line {error.line}: {error.reason}"
            )
            return None
        except ValueError as error:
            self._findings.error(entry.at, "import-failed", str(error))
            return None
        root = source.data if isinstance(source.data, dict) else {}
        nested = root.get("capability")
        for listed in (root.get(section), (nested or {}).get(section)):
            for item in listed if isinstance(listed, list) else []:
                if isinstance(item, dict) and item.get("namespace") == namespace:
                    return self._taken(kind or _kind(item), item, entry)
        self._findings.error(entry.at, "import-failed", f"{location} has no {namespace} in {section}")
        return None

    def _taken(self, kind: str, item: dict[str, Json], entry: Fields) -> Fields:
        """An entry as the importing document has it; what is found inside is told at the line of the import."""
        self._findings.source.imported.append(item)
        check_texts(item, entry.at, self._findings)
        return Fields(self._findings, kind, {**item, "namespace": entry.text("as") or item["namespace"]}, entry.at)


def _kind(item: Json) -> str:
    kind = item.get("type") if isinstance(item, dict) else None
    return kind if kind in ("rest", "mcp", "skill", "control") else "rest" if kind in ("api", None) else "mcp"


def _bind(entry: Fields) -> Bind:
    keys = {name: str(key) for name, key in entry.mapping("keys").items() if not isinstance(key, dict | list)}
    return Bind(namespace=entry.text("namespace", needed=True), keys=keys, location=entry.text("location"), at=entry.at)


def _fault(base: str) -> str:
    """What is wrong with an address, if anything is."""
    try:
        parts = urlsplit(base)
    except ValueError:
        return f"{base!r} is no address"
    if base and "{{" not in base and parts.scheme not in ("http", "https"):
        return f"{base!r} must begin with http:// or https://"
    if "@" in parts.netloc:
        return "must have no credentials: write them as authentication, of type basic"
    return "must have no spaces" if re.search(r"\s", re.sub(r"\{\{.*?\}\}", "", base)) else ""


def _consumer(entry: Fields) -> Consumer:
    kind = entry.text("type")
    if kind not in ("http", ""):
        entry.findings.error(entry.path("type"), "unknown-type", f"type {kind!r} of what is consumed must be http")
    if entry.has("tunnel"):
        entry.findings.warning(entry.path("tunnel"), "not-used", "perdure has no tunnels; it calls baseUri directly")
    base = entry.text("baseUri", needed=True).rstrip("/")
    if problem := _fault(base):
        entry.findings.error(entry.path("baseUri"), "bad-uri", f"baseUri {problem}")
    shared = parameters(entry, "consumed parameter")
    operations: list[ConsumedOperation] = []
    for name, resource in entry.named("resources", "consumed resource"):
        path = resource.text("path", needed=True)
        inputs = _merged(shared, parameters(resource, "consumed parameter"))
        for operation_name, operation in resource.named("operations", "consumed operation"):
            operations.append(_consumed(operation_name, name, path, inputs, operation))
    return Consumer(
        namespace=entry.text("namespace", needed=True),
        base_uri=base,
        description=entry.text("description"),
        authentication=authentication(entry),
        operations=operations,
        inputs=shared,
        at=entry.at,
    )


def _consumed(name: str, resource: str, path: str, shared: list[Parameter], entry: Fields) -> ConsumedOperation:
    method = (entry.text("method") or "GET").upper()
    if method not in _METHODS:
        entry.findings.error(entry.path("method"), "unknown-method", f"{method} is no HTTP method")
    form = entry.text("outputRawFormat").lower() or "json"
    if form not in FORMATS:
        told = f"outputRawFormat {form!r} is none of {', '.join(FORMATS)}"
        entry.findings.error(entry.path("outputRawFormat"), "unknown-format", told)
    outputs = [
        Output(name=each, type=one.text("type") or "object", mapping=one.text("value", "mapping"), at=one.at)
        for each, one in entry.named("outputParameters", "consumed output", unnamed=True)
    ]
    return ConsumedOperation(
        name=name,
        resource=resource,
        method=method,
        path=path,
        description=entry.text("description"),
        inputs=_merged(shared, parameters(entry, "consumed parameter")),
        body=_body(entry),
        format=form,
        media_type=entry.text("outputMediaType"),
        selector=entry.text("outputSchema"),
        max_size=entry.size("maxBinarySize", MAX_REPLY),
        outputs=outputs,
        at=entry.at,
    )


def _merged(outer: list[Parameter], inner: list[Parameter]) -> list[Parameter]:
    """Parameters of an object around and of one within, which may say the same again otherwise."""
    own = {(each.name, each.place) for each in inner}
    return [each for each in outer if (each.name, each.place) not in own] + inner


def _body(entry: Fields) -> Body | None:
    value = entry.value.get("body")
    at = entry.path("body")
    if value is None:
        return None
    if isinstance(value, str):
        return Body("raw", value, at)
    fields = Fields(entry.findings, "body", value, at)
    kind = fields.text("type", needed=True)
    if kind and kind not in _BODIES:
        entry.findings.error(fields.path("type"), "unknown-body", f"body type {kind!r} is none of {', '.join(_BODIES)}")
    if "data" not in fields.value:
        entry.findings.error(at, "missing-key", "this body needs data")
    data = fields.value.get("data")
    if kind in ("text", "xml", "sparql") and not isinstance(data, str):
        entry.findings.error(at, "wrong-type", f"the data of a body of type {kind} must be text")
    if kind == "multipartForm":
        for part in fields.each("data", "part"):
            part.text("name", needed=True)
    return Body(kind, data, at)


def _flows(entry: Fields) -> list[Flow]:
    namespace = entry.text("namespace", "name", needed=True)
    key = "flows" if entry.has("flows") else "functions"
    return [
        Flow(
            aggregate=namespace,
            action=exposed.action(name, flow, "tool parameter"),
            semantics=flow.flags("semantics", "semantics"),
        )
        for name, flow in entry.named(key, "flow")
    ]

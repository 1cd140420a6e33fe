"""The keys that capability documents may use, of all versions of the format from 0.5 to 1.0.0-beta4, by kind of object.

`KEYS` is the published vocabulary. `TOLERATED` is what documents use besides, with what perdure makes of it. Keys that
begin with `x-` are anybody's. Whatever else there is, is an error: a misspelt key changes what is sent, silently.
"""

from __future__ import annotations

import difflib

from perdure.capability.findings import Findings
from perdure.capability.source import Path
from perdure.model.json import Json

_ACTION = "name display label title description tags inputParameters ref call with steps mappings outputParameters"
KEYS: dict[str, frozenset[str]] = {
    kind: frozenset(words.split())
    for kind, words in {
        "document": "naftiko ikanos info consumes exposes aggregates binds capability externalRefs",
        "info": "label display title description tags created modified version stakeholders",
        "stakeholder": "role fullName email",
        "capability": "binds consumes exposes aggregates externalRefs",
        "import": "from location import as description",
        "bind": "namespace description location keys",
        "consumer": "type namespace baseUri description authentication inputParameters resources tunnel",
        "consumed resource": "name label display tags description path inputParameters operations",
        "consumed operation": "name label display tags description method inputParameters outputRawFormat "
        "outputMediaType maxBinarySize outputSchema outputParameters body",
        "consumed parameter": "name in value",
        "consumed output": "name type value",
        "body": "type data",
        "part": "name value filename contentType",
        "tunnel": "type service identity fallback",
        "aggregate": "label display name namespace description functions flows",
        "flow": f"{_ACTION} semantics outputMediaType",
        "semantics": "safe idempotent cacheable",
        "rest": "type address port namespace authentication maxBinarySize resources",
        "mcp": "type transport address port namespace description maxBinarySize ttlMs cacheScope authentication tools "
        "resources prompts",
        "skill": "type address port namespace description authentication skills",
        "control": "type address port authentication management observability",
        "exposed resource": "name label display tags description path inputParameters operations forward",
        "exposed operation": f"{_ACTION} method responses responseBinary outputMediaType",
        "exposed parameter": "name in type description pattern value required",
        "tool": f"{_ACTION} hints",
        "tool parameter": "name type description required",
        "hints": "readOnly destructive idempotent openWorld",
        "mcp resource": f"{_ACTION} uri mimeType binary location",
        "prompt": "name label display description arguments template location",
        "prompt argument": "name label display description required",
        "message": "role content",
        "forward": "targetNamespace trustedHeaders",
        "step": "name type call with index match lookupValue outputParameters language location file dependencies",
        "mapping": "targetName target value",
        "output": "name type mapping value const properties items",
        "exposed skill": "name description license compatibility metadata allowed-tools argument-hint user-invocable "
        "disable-model-invocation location tools",
        "skill tool": "name description from instruction",
        "source": "sourceNamespace action",
    }.items()
}
AUTHENTICATION: dict[str, frozenset[str]] = {
    "basic": frozenset({"type", "username", "password"}),
    "digest": frozenset({"type", "username", "password"}),
    "bearer": frozenset({"type", "token"}),
    "apikey": frozenset({"type", "key", "value", "placement"}),
    "oauth2": frozenset(
        {"type", "authorizationServerUri", "resource", "scopes", "audience", "tokenEndpoint", "tokenValidation"}
    ),
}
_SCHEMA = {
    key: "perdure puts it in the schema of the argument"
    for key in ("enum", "default", "format", "minimum", "maximum", "minLength", "maxLength", "example", "examples")
} | {key: "perdure puts it in the schema of the argument" for key in ("items", "properties")}
_TYPED = {
    key: "perdure takes it for the argument of whatever calls this" for key in ("type", "required", "description")
}
_DURABLE = {"durable": "the steps are a durable run of perdure"}
_DESCRIBED = {"description": "it is only for readers"}
TOLERATED: dict[str, dict[str, str]] = {
    "consumed parameter": {**_TYPED, **_SCHEMA, "pattern": "perdure checks the value"},
    "exposed parameter": _SCHEMA,
    "tool parameter": {**_SCHEMA, "pattern": "perdure checks the value", "in": "it says nothing to a tool"},
    "rest": _DESCRIBED,
    "control": {**_DESCRIBED, "namespace": "it names the adapter"},
    "bind": {"type": "it says nothing here"},
    "output": _DESCRIBED,
    "consumed output": {**_DESCRIBED, "mapping": "perdure takes it for value", "properties": "", "items": ""},
    "mapping": _DESCRIBED,
    "step": _DESCRIBED,
    "info": {"name": "perdure takes it for the label", "license": "it is only for readers"},
    "consumed operation": {"summary": "it is only for readers", "tags": "", "deprecated": "it is only for readers"},
    "exposed operation": {**_DURABLE, "summary": "it is only for readers", "hints": "REST has no hints"},
    "tool": {**_DURABLE, "annotations": "perdure takes them for hints"},
    "flow": _DURABLE,
    "hints": {"title": "perdure takes it for the title of the tool"},
}


def check_keys(findings: Findings, kind: str, value: dict[str, Json], path: Path) -> None:
    """Finds the keys of an object that its kind does not have."""
    known, tolerated = KEYS[kind], TOLERATED.get(kind, {})
    for key in value:
        if key in known or key.startswith("x-"):
            continue
        if key in tolerated:
            meaning = f": {tolerated[key]}" if tolerated[key] else ""
            findings.warning((*path, key), "unpublished-key", f"the published format has no {key} in a {kind}{meaning}")
        else:
            findings.error((*path, key), "unknown-key", f"{key} is no key of a {kind}{_near(key, known)}")


def check_authentication(findings: Findings, value: dict[str, Json], path: Path) -> None:
    """Finds a kind of authentication that there is not, and keys that its kind does not have."""
    kind = value.get("type")
    if kind not in AUTHENTICATION:
        findings.error(
            path, "unknown-authentication", f"authentication type {kind!r} is none of {', '.join(AUTHENTICATION)}"
        )
        return
    for key in value.keys() - AUTHENTICATION[kind]:
        if not key.startswith("x-"):
            message = f"{key} is no key of {kind} authentication{_near(key, AUTHENTICATION[kind])}"
            findings.error((*path, key), "unknown-key", message)


def _near(key: str, known: frozenset[str]) -> str:
    by_lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(key.lower(), by_lower, 1, 0.7)
    return f"; is it {by_lower[near[0]]}?" if near else f"; it has {', '.join(sorted(known))}"

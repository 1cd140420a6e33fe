"""The published format of capability documents, as a JSON schema: what its newest versions say of the parts used here.

Field names, patterns and what is required are those of the published schema (1.0.0-beta4 and after); nothing else may
stand in an object.
"""

from __future__ import annotations

from perdure.model.json import Json

_TEXT: Json = {"type": "string"}
_FLAG: Json = {"type": "boolean"}
_WORDS: Json = {"type": "array", "items": _TEXT}
_PORT: Json = {"type": "integer", "minimum": 1, "maximum": 65535}
_KEBAB = "^[a-zA-Z0-9-]+$"
_NAME = "^[a-zA-Z0-9-_*]+$"
_NAMESPACE: Json = {"type": "string", "pattern": _KEBAB}
_TYPE: Json = {"enum": ["string", "number", "integer", "boolean", "array", "object"]}
_CALL: Json = {"type": "string", "pattern": "^[a-zA-Z0-9-]+\\.[a-zA-Z0-9-]+$"}
_METHOD: Json = {"enum": ["GET", "POST", "PUT", "PATCH", "DELETE"]}
_DATE: Json = {"type": "string", "pattern": "^\\d{4}-\\d{2}-\\d{2}$"}
_FORMATS: Json = ["json", "xml", "avro", "protobuf", "csv", "tsv", "psv", "yaml", "html", "markdown", "binary"]


def _record(needed: str, /, **members: Json) -> Json:
    return {"type": "object", "properties": members, "required": needed.split(), "additionalProperties": False}


def _named(entry: Json, pattern: str = _KEBAB) -> Json:
    """A map from names to entries, which has at least one."""
    return {
        "type": "object", "propertyNames": {"pattern": pattern}, "additionalProperties": entry, "minProperties": 1,
    }  # fmt: skip


_WITH: Json = {"type": "object", "additionalProperties": {"anyOf": [_TEXT, {"type": "number"}]}}
_HINTS = _record("", readOnly=_FLAG, destructive=_FLAG, idempotent=_FLAG, openWorld=_FLAG)
_CONSUMED_PARAMETER = _record("in", **{
    "in": {"enum": ["query", "header", "path", "cookie", "body", "environment"]}, "value": _TEXT,
})  # fmt: skip
_EXPOSED_PARAMETER = _record("in type description", **{
    "in": {"enum": ["query", "header", "path", "cookie", "body"]}, "type": _TYPE, "description": _TEXT,
    "pattern": _TEXT, "value": _TEXT,
})  # fmt: skip
_TOOL_PARAMETER = _record("type description", type=_TYPE, description=_TEXT, required=_FLAG)
_BODY: Json = {
    "anyOf": [_TEXT, _record("type data", type={"const": "json"}, data={"type": ["string", "object", "array"]})],
}  # fmt: skip
_CONSUMED = _record(
    "method", display=_TEXT, tags=_WORDS, description=_TEXT, method=_METHOD, body=_BODY,
    inputParameters=_named(_CONSUMED_PARAMETER, _NAME), outputRawFormat={"enum": _FORMATS}, outputSchema=_TEXT,
)  # fmt: skip
_BEARER = _record("type", type={"const": "bearer"}, token=_TEXT)
_CONSUMER = _record(
    "namespace type baseUri", namespace=_NAMESPACE, type={"const": "http"}, description=_TEXT,
    baseUri={"type": "string", "pattern": "^https?://[^/]+(/[^{]*)?$"}, authentication=_BEARER,
    inputParameters=_named(_CONSUMED_PARAMETER, _NAME),
    resources=_named(_record(
        "path operations", display=_TEXT, tags=_WORDS, description=_TEXT, path=_TEXT, operations=_named(_CONSUMED),
        inputParameters=_named(_CONSUMED_PARAMETER, _NAME),
    )),
)  # fmt: skip
_OPERATION = _record(
    "method", display=_TEXT, tags=_WORDS, description=_TEXT, method=_METHOD, call=_CALL,
    inputParameters=_named(_EXPOSED_PARAMETER, _NAME), **{"with": _WITH},
)  # fmt: skip
_REST = _record(
    "type port namespace", type={"const": "rest"}, address=_TEXT, port=_PORT, namespace=_NAMESPACE,
    resources=_named(_record(
        "path operations", display=_TEXT, tags=_WORDS, description=_TEXT, path=_TEXT, operations=_named(_OPERATION),
        inputParameters=_named(_EXPOSED_PARAMETER, _NAME),
    )),
)  # fmt: skip
_TOOL = _record(
    "description call", display=_TEXT, tags=_WORDS, description=_TEXT, call=_CALL, hints=_HINTS,
    inputParameters=_named(_TOOL_PARAMETER, _NAME), **{"with": _WITH},
)  # fmt: skip
_MCP = _record(
    "type namespace tools port", type={"const": "mcp"}, transport={"const": "http"}, address=_TEXT, port=_PORT,
    namespace=_NAMESPACE, description=_TEXT, ttlMs={"type": "integer"}, tools=_named(_TOOL),
)  # fmt: skip
_BIND = _record(
    "namespace keys", namespace=_NAMESPACE, description=_TEXT,
    location={"type": "string", "pattern": "^[a-zA-Z][a-zA-Z0-9+.-]*://"},
    keys={
        "type": "object", "propertyNames": {"pattern": "^[A-Z][A-Z0-9_]*$"},
        "additionalProperties": {"type": "string", "pattern": _NAME},
    },
)  # fmt: skip
_INFO = _record(
    "description", display=_TEXT, description=_TEXT, version=_TEXT, tags=_WORDS, created=_DATE, modified=_DATE,
)  # fmt: skip


def published(version: str) -> Json:
    """The schema of a version."""
    exposed: Json = {"oneOf": [_REST, _MCP]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_record(
            "ikanos capability", ikanos={"const": version}, info=_INFO,
            binds={"type": "array", "items": _BIND, "minItems": 1},
            capability=_record(
                "", consumes={"type": "array", "items": _CONSUMER, "minItems": 1},
                exposes={"type": "array", "items": exposed, "minItems": 1},
            ),
        ),
    }  # fmt: skip

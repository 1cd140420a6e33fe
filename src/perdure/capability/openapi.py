"""The REST adapters of a capability as an OpenAPI 3.1 document."""

from __future__ import annotations

from perdure.capability.arguments import Argument, arguments
from perdure.capability.model import Capability, Exposure, Output, RestOperation
from perdure.model.json import Json
from perdure.server.mcp.portable import portable

_ERROR: Json = {
    "type": "object",
    "properties": {"error": {"type": "string"}, "code": {"type": "string"}, "status": {"type": "integer"}},
}


def document(capability: Capability, server: str = "") -> Json:
    """The document; `server` is the address of the adapters, if it is another than the capability says.

    An adapter's credentials become a security scheme.
    """
    paths: dict[str, dict[str, Json]] = {}
    schemes: dict[str, Json] = {}
    servers: list[Json] = []
    for exposure in capability.exposures:
        if exposure.kind != "rest":
            continue
        servers.append({"url": server or f"http://{exposure.address}:{exposure.port}"})
        scheme = _scheme(exposure)
        if scheme:
            schemes[exposure.namespace] = scheme
        for each in exposure.operations:
            path = each.path.replace("{{", "{").replace("}}", "}")
            shown = _operation(capability, exposure, each)
            paths.setdefault(path, {})[each.method.lower()] = (
                shown | {"security": [{exposure.namespace: []}]} if scheme else shown
            )
    made: dict[str, Json] = {
        "openapi": "3.1.0",
        "info": {
            "title": capability.title or "Capability",
            "version": capability.revision or "1.0.0",
            "description": capability.description,
        },
        "paths": paths,
    }
    if servers:
        made["servers"] = [each for place, each in enumerate(servers) if each not in servers[:place]]
    return made | {"components": {"securitySchemes": schemes}} if schemes else made


def _operation(capability: Capability, exposure: Exposure, operation: RestOperation) -> dict[str, Json]:
    action = operation.action
    found = arguments(capability, exposure, action, operation.path)
    shown: dict[str, Json] = {"operationId": f"{exposure.namespace}-{action.name}"}
    if action.description:
        shown["description"] = action.description
    parameters = [_parameter(each) for each in found if each.place in ("path", "query", "header", "cookie")]
    if parameters:
        shown["parameters"] = parameters
    body = [each for each in found if each.place == "body"]
    if body and operation.method not in ("GET", "HEAD"):
        shown["requestBody"] = _body(body)
    content = {"application/json": {"schema": _result(action.outputs)}}
    shown["responses"] = {
        "200": {"description": "What the operation gives.", "content": content},
        "default": {"description": "What went wrong.", "content": {"application/json": {"schema": _ERROR}}},
    }
    return shown


def _parameter(argument: Argument) -> Json:
    schema = portable({key: value for key, value in argument.schema.items() if key != "description"})
    return {
        "name": argument.name,
        "in": argument.place,
        "required": argument.required or argument.place == "path",
        "description": argument.schema.get("description", argument.name),
        "schema": schema,
    }


def _body(found: list[Argument]) -> Json:
    if len(found) == 1 and found[0].name.lower() == "body":
        schema, required = portable(found[0].schema), found[0].required
    else:
        needed = [each.name for each in found if each.required]
        schema = {"type": "object", "properties": {each.name: portable(each.schema) for each in found}}
        schema, required = schema | {"required": needed} if needed else schema, bool(needed)
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def _result(outputs: list[Output]) -> Json:
    if not outputs:
        return {}
    if len(outputs) > 1 and all(each.name for each in outputs):
        return {"type": "object", "properties": {each.name: _schema(each) for each in outputs}}
    return _schema(outputs[0])


def _schema(output: Output) -> Json:
    if output.type == "object" and output.properties is not None:
        return {"type": "object", "properties": {each.name: _schema(each) for each in output.properties}}
    if output.type == "array":
        return {"type": "array", "items": _schema(output.items) if output.items else {}}
    # A value passes through as it is: an object in the document may be an array upstream.
    return {} if output.type == "object" else {"type": output.type}


def _scheme(exposure: Exposure) -> Json:
    asked = exposure.authentication
    if asked is None:
        return None
    if asked.kind in ("bearer", "basic"):
        return {"type": "http", "scheme": asked.kind}
    return {"type": "apiKey", "in": asked.settings.get("placement", "header"), "name": asked.settings.get("key", "")}

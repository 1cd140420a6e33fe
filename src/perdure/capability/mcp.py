"""The MCP adapters of capabilities: their tools, resources and prompts as offerings, and the door of a port.

Several adapters on one port are offered together at any path, and each for itself below `/{namespace}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from perdure.capability.arguments import arguments, schema_of
from perdure.capability.calling import passed_on
from perdure.capability.catalog import contents
from perdure.capability.locations import file_of
from perdure.capability.model import Action, Output, Prompt, Resource, Tool
from perdure.capability.performing import Outcome
from perdure.capability.requests import CallError
from perdure.capability.rest import Face
from perdure.capability.skills import front, skill, slug
from perdure.capability.templates import TemplateError, render
from perdure.model.json import Json, encode
from perdure.server.mcp import offering as offered
from perdure.server.mcp.door import McpDoor
from perdure.server.mcp.offering import Answer, Caller, Content, NoResourceError, Offering, Tasks, ToolError

_HINTS = {
    "readOnly": "readOnlyHint",
    "destructive": "destructiveHint",
    "idempotent": "idempotentHint",
    "openWorld": "openWorldHint",
}
_MEDIA = {".md": "text/markdown", ".json": "application/json", ".yaml": "application/yaml", ".yml": "application/yaml",
          ".html": "text/html", ".csv": "text/csv"}  # fmt: skip


class CapabilityDoor:
    """Serves the MCP adapters of one port over HTTP."""

    def __init__(self, faces: Sequence[Face], tasks: Tasks | None = None) -> None:
        self._faces = list(faces)
        self._door = McpDoor(lambda key: offering([each for each in self._faces if key in ("", _name(each))], tasks))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        first = scope["path"].strip("/").partition("/")[0]
        key = first if any(_name(each) == first for each in self._faces) else ""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        for each in self._faces:
            if key in ("", _name(each)):
                try:
                    each.admission.check(headers, scope["query_string"].decode("latin-1"))
                except CallError as error:
                    await _refusal(each, error)(scope, receive, send)
                    return
        await self._door.serve(key, scope, receive, send)


def _refusal(face: Face, error: CallError) -> Response:
    body = {"error": str(error), "code": error.code, "status": error.status}
    headers = {"www-authenticate": face.admission.challenge} if error.status == 401 else {}
    return Response(encode(body), error.status, headers, "application/json")


def _name(face: Face) -> str:
    return face.exposure.namespace


def offering(faces: Sequence[Face], tasks: Tasks | None = None) -> Offering:
    """What adapters offer together. Tools of the same name get the namespace of their adapter before it.

    `tasks` are the runs of durable tools.
    """
    names = [each.action.name for face in faces for each in face.exposure.tools]
    tools: list[offered.Tool] = []
    resources: list[offered.Resource] = []
    prompts: list[offered.Prompt] = []
    for face in faces:
        for tool in face.exposure.tools:
            own = tool.action.name
            tools.append(_tool(face, tool, own if names.count(own) == 1 else f"{_name(face)}-{own}"))
        for resource in face.exposure.resources:
            resources += _files(face, resource) if resource.location else [_resource(face, resource)]
        prompts += [_prompt(face, each) for each in face.exposure.prompts]
    return Offering(
        name=_name(faces[0]) if len(faces) == 1 else "capabilities",
        version=faces[0].performer.capability.revision or version("perdure"),
        instructions="\n\n".join(each.exposure.description for each in faces if each.exposure.description),
        tools=tools,
        resources=resources,
        prompts=prompts,
        skills=_skills(faces),
        tasks=tasks,
    )


def _skills(faces: Sequence[Face]) -> list[offered.Skill]:
    """The skills that documents expose, or one of the document itself; of two with one name the first."""
    found: dict[str, offered.Skill] = {}
    for face in faces:
        capability = face.performer.capability
        exposed = {each.name: contents(face, each) for one in capability.exposures for each in one.skills}
        for name, made in (exposed or {slug(capability.title): skill(capability)}).items():
            found.setdefault(name, offered.Skill(name=name, front=front(made["SKILL.md"]), files=made))
    return list(found.values())


def _tool(face: Face, tool: Tool, name: str) -> offered.Tool:
    found = arguments(face.performer.capability, face.exposure, tool.action)
    defaults = {each.name: face.performer.default_for(each) for each in found}

    async def call(given: dict[str, Json], caller: Caller) -> Answer:
        try:
            outcome = await face.performer.perform(face.exposure, tool.action, found, given, _passed(face, caller))
            return _answer(outcome)
        except CallError as error:
            raise ToolError(f"{error.code}: {error}") from error

    async def start(given: dict[str, Json], caller: Caller) -> str:
        durable = face.performer.durable
        if durable is None:
            raise ToolError("there is nothing that keeps durable runs")
        try:
            face.performer.check(found, given)
            return await durable.start(tool.action, given)
        except CallError as error:
            raise ToolError(f"{error.code}: {error}") from error

    return offered.Tool(
        name=name,
        title=tool.action.title,
        description=tool.action.description or tool.action.name,
        input_schema=schema_of(found, defaults),
        output_schema=_output_schema(tool.action),
        hints={_HINTS[key]: value for key, value in tool.hints.items() if key in _HINTS},
        call=call,
        toolset=_name(face),
        start=start if tool.action.durable and face.performer.durable is not None else None,
    )


def _passed(face: Face, caller: Caller) -> dict[str, str]:
    return passed_on(caller.headers, own=face.exposure.authentication is not None)


def _answer(outcome: Outcome) -> Answer:
    result = outcome.result
    if result is None:
        return Answer(outcome.value)
    if not result.ok:
        raise ToolError(result.told())
    if result.binary:
        import base64

        data = base64.b64encode(result.reply.body).decode()
        return Answer({"mediaType": result.media_type, "data": data})
    value = result.value
    if value is None:
        return Answer(text=f"HTTP {result.reply.status}, without content")
    if _says_error(value):
        # Some APIs answer a failure with status 200.
        raise ToolError(f"HTTP {value['status']}: {encode(value).decode()}")
    return Answer(value)


def _says_error(value: Json) -> bool:
    status = value.get("status") if isinstance(value, dict) else None
    return isinstance(status, int) and status >= 400 and bool(value.get("error"))


def _output_schema(action: Action) -> dict[str, Json] | None:
    """The schema of a result, where the document says what is in it."""
    outputs = action.outputs
    if action.mode != "call" and outputs and all(each.name for each in outputs):
        return _object(outputs)
    if len(outputs) > 1 and all(each.name for each in outputs):
        return _object(outputs)
    if len(outputs) != 1:
        return None
    only = outputs[0]
    if only.type == "object" and only.properties:
        return _object(only.properties)
    if only.type == "array" and only.items is not None:
        return {"type": "object", "properties": {"result": _schema(only)}}
    return None


def _object(outputs: Sequence[Output]) -> dict[str, Json]:
    return {"type": "object", "properties": {each.name: _schema(each) for each in outputs}}


def _schema(output: Output) -> dict[str, Json]:
    """The schema of a value, which may always be missing upstream: null."""
    if output.type == "object" and output.properties is not None:
        return {**_object(output.properties), "type": ["object", "null"]}
    if output.type == "array" and output.items is not None:
        return {"type": ["array", "null"], "items": _schema(output.items)}
    return {}


def _resource(face: Face, resource: Resource) -> offered.Resource:
    found = arguments(face.performer.capability, face.exposure, resource.action, resource.uri)

    async def read(values: dict[str, str], caller: Caller) -> Content:
        try:
            outcome = await face.performer.perform(face.exposure, resource.action, found, values, _passed(face, caller))
        except CallError as error:
            raise ToolError(f"{error.code}: {error}") from error
        result = outcome.result
        if result is not None and result.reply.status == 404:
            raise NoResourceError(result.told())
        if result is not None and not result.ok:
            raise ToolError(result.told())
        if result is not None and (result.binary or resource.binary):
            return Content(resource.media_type or result.media_type, None, result.reply.body)
        value = outcome.value if result is None else result.value
        text = value if isinstance(value, str) else encode(value).decode()
        return Content(resource.media_type or "application/json", text)

    return offered.Resource(
        uri=resource.uri.replace("{{", "{").replace("}}", "}"),
        name=resource.action.name,
        title=resource.action.title,
        description=resource.action.description,
        media_type=resource.media_type,
        read=read,
    )


def _folder(face: Face, location: str) -> Path:
    """The file that a file:/// URI means; one that begins with ./ is beside the document."""
    return Path(face.performer.capability.folder, file_of(location))


def _files(face: Face, resource: Resource) -> list[offered.Resource]:
    """The files of a static resource, each a resource of its own."""
    root = _folder(face, resource.location)
    single = root.is_file()
    files = [root] if single else sorted(each for each in root.rglob("*") if each.is_file() and not each.is_symlink())
    made: list[offered.Resource] = []
    for file in files:
        media = resource.media_type if single else _MEDIA.get(file.suffix.lower(), "text/plain")
        name = resource.action.name if single else f"{resource.action.name}/{file.relative_to(root).as_posix()}"
        uri = resource.uri if single else f"{resource.uri.rstrip('/')}/{file.relative_to(root).as_posix()}"
        made.append(
            offered.Resource(
                uri=uri, name=name, description=resource.action.description, media_type=media, read=_reader(file, media)
            )
        )
    return made


def _reader(file: Path, media: str) -> offered.Read:
    async def read(values: dict[str, str], caller: Caller) -> Content:
        try:
            data = file.read_bytes()
        except OSError as error:
            raise NoResourceError(f"{file.name}: {error.strerror}") from error
        try:
            return Content(media, data.decode())
        except UnicodeDecodeError:
            return Content(media, None, data)

    return read


def _prompt(face: Face, prompt: Prompt) -> offered.Prompt:
    async def messages(given: dict[str, str], caller: Caller) -> list[tuple[str, Json]]:
        texts = prompt.messages
        if prompt.location:
            try:
                texts = [("user", _folder(face, prompt.location).read_text(encoding="utf-8"))]
            except OSError as error:
                raise ToolError(f"cannot read {prompt.location}: {error.strerror}") from error
        optional = {each.name: "" for each in prompt.arguments}
        try:
            return [(role, str(render(text, {**optional, **given}.__getitem__))) for role, text in texts]
        except TemplateError as error:
            raise ToolError(f"prompt {prompt.name}: {error}") from error

    return offered.Prompt(
        name=prompt.name,
        title=prompt.title,
        description=prompt.description,
        arguments=[
            offered.PromptArgument(each.name, each.description, each.required is not False) for each in prompt.arguments
        ],
        render=messages,
    )

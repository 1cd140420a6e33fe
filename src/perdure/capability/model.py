"""The one model of capability documents, whatever version they were written in.

Lists and maps have become lists, names are names, and references to aggregates are resolved. `at` is the path in the
document, by which findings point at a line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from perdure.capability.source import Path
from perdure.model.json import Json

Mode = Literal["call", "steps", "mock"]
MAX_REPLY = 10 * 1024 * 1024
"""The largest answer of an upstream, where the document sets no other (bytes)."""
PLACES = ("query", "header", "path", "cookie", "body", "environment")


class Parameter(msgspec.Struct, kw_only=True):
    """A parameter of an operation. `required` is None where the document does not say; `schema` has what is more."""

    name: str
    place: str = ""
    type: str = ""
    description: str = ""
    required: bool | None = None
    value: Json = None
    schema: dict[str, Json] = {}
    at: Path = ()


class Output(msgspec.Struct, kw_only=True):
    """What becomes of a result: a JSONPath (`mapping`) or a fixed `value`, and for objects and arrays their parts."""

    name: str = ""
    type: str = "object"
    mapping: str = ""
    value: Json = None
    properties: list[Output] | None = None
    items: Output | None = None
    at: Path = ()


class Authentication(msgspec.Struct, kw_only=True):
    """How to authenticate; `settings` are the fields of its kind, templates and all."""

    kind: str
    settings: dict[str, Json]
    at: Path = ()


class Body(msgspec.Struct):
    """The body of a request: `kind` is raw, json, text, xml, sparql, formUrlEncoded or multipartForm."""

    kind: str
    data: Json
    at: Path = ()


class ConsumedOperation(msgspec.Struct, kw_only=True):
    """One operation of an upstream; its parameters include those of its resource and of the whole upstream."""

    name: str
    resource: str
    method: str
    path: str
    description: str = ""
    inputs: list[Parameter] = []
    body: Body | None = None
    format: str = "json"
    media_type: str = ""
    selector: str = ""
    reader: Callable[[bytes], Json] | None = None
    """Reads answers in Avro or Protocol Buffers."""
    max_size: int = MAX_REPLY
    outputs: list[Output] = []
    at: Path = ()


class Consumer(msgspec.Struct, kw_only=True):
    """An upstream HTTP API."""

    namespace: str
    base_uri: str
    description: str = ""
    authentication: Authentication | None = None
    operations: list[ConsumedOperation] = []
    inputs: list[Parameter] = []
    at: Path = ()


class Step(msgspec.Struct, kw_only=True):
    """A step of an orchestrated operation: a call, a lookup in an earlier step's result, or a script."""

    name: str
    kind: str
    call: str = ""
    arguments: dict[str, Json] = {}
    index: str = ""
    match: str = ""
    lookup_value: str = ""
    fields: list[str] = []
    language: str = ""
    location: str = ""
    files: list[str] = []
    """The files of a script, the ones that it depends on first."""
    at: Path = ()


class Mapping(msgspec.Struct):
    """Where a value of an orchestrated result comes from; `target` may have dots."""

    target: str
    value: Json
    at: Path = ()


class Action(msgspec.Struct, kw_only=True):
    """What is done when something exposed is asked for. The steps of a durable one are a run of perdure."""

    name: str
    title: str = ""
    description: str = ""
    inputs: list[Parameter] = []
    ref: str = ""
    call: str = ""
    arguments: dict[str, Json] = {}
    steps: list[Step] = []
    mappings: list[Mapping] = []
    outputs: list[Output] = []
    durable: bool = False
    at: Path = ()

    @property
    def mode(self) -> Mode:
        """Which of the three ways of the format it takes."""
        return "steps" if self.steps else "call" if self.call else "mock"


class Flow(msgspec.Struct, kw_only=True):
    """A function of an aggregate, to which exposed operations refer."""

    aggregate: str
    action: Action
    semantics: dict[str, bool] = {}


class RestOperation(msgspec.Struct, kw_only=True):
    """An exposed operation: a method of a path."""

    method: str
    path: str
    action: Action


class Forward(msgspec.Struct, kw_only=True):
    """A path whose requests go to an upstream as they are, with the trusted headers alone."""

    path: str
    target: str
    trusted_headers: list[str] = []
    at: Path = ()


class Tool(msgspec.Struct, kw_only=True):
    """An MCP tool; `hints` has the words of the format (`readOnly`, ...)."""

    action: Action
    hints: dict[str, bool] = {}


class Resource(msgspec.Struct, kw_only=True):
    """An MCP resource: a dynamic one has an action, a static one the URI of a folder."""

    uri: str
    media_type: str = ""
    binary: bool = False
    location: str = ""
    action: Action


class Prompt(msgspec.Struct, kw_only=True):
    """An MCP prompt: messages `(role, content)` with placeholders, or the URI of a file."""

    name: str
    title: str = ""
    description: str = ""
    arguments: list[Parameter] = []
    messages: list[tuple[str, str]] = []
    location: str = ""
    at: Path = ()


class SkillTool(msgspec.Struct, kw_only=True):
    """A tool of a skill: one of a sibling adapter, or a file of instructions."""

    name: str
    description: str = ""
    source: str = ""
    action: str = ""
    instruction: str = ""
    at: Path = ()


class Skill(msgspec.Struct, kw_only=True):
    """A skill; `front` has the other fields of its front matter."""

    name: str
    description: str = ""
    front: dict[str, Json] = {}
    location: str = ""
    tools: list[SkillTool] = []
    at: Path = ()


class Exposure(msgspec.Struct, kw_only=True):
    """An adapter: `kind` is rest, mcp, skill or control."""

    kind: str
    namespace: str
    port: int = 0
    address: str = "localhost"
    transport: str = "http"
    description: str = ""
    authentication: Authentication | None = None
    operations: list[RestOperation] = []
    forwards: list[Forward] = []
    tools: list[Tool] = []
    resources: list[Resource] = []
    prompts: list[Prompt] = []
    skills: list[Skill] = []
    management: dict[str, Json] = {}
    at: Path = ()


class Bind(msgspec.Struct, kw_only=True):
    """Variables from outside: `keys` leads from a variable's name to its name at the provider."""

    namespace: str
    keys: dict[str, str]
    location: str = ""
    at: Path = ()


class Capability(msgspec.Struct, kw_only=True):
    """A document as perdure understands it. `explicit_required` says whether it writes `required: true` anywhere."""

    version: str
    title: str
    description: str
    tags: list[str] = []
    revision: str = ""
    binds: list[Bind] = []
    consumers: list[Consumer] = []
    flows: list[Flow] = []
    exposures: list[Exposure] = []
    explicit_required: bool = False
    folder: str = "."

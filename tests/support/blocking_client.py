"""Makes `perdure/client/blocking.py`, the client that does not await: `python -m tests.support.blocking_client`.

Each class of the async client becomes one with the same methods, each waiting for the one of the same name. The file is
made, never edited; a test compares it with what this makes.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

from perdure.client import agents, client
from perdure.client.agents import api
from perdure.model.json import Json

FILE = Path(__file__).parents[2] / "src/perdure/client/blocking.py"
STREAMS = {"AgentStream": "BlockingStream", "RunReader": "BlockingReader", "ThreadSubscription": "BlockingSubscription"}
CLASSES = {
    client.Client: "BlockingClient",
    agents.AgentClient: "BlockingAgent",
    agents.MemoryClient: "BlockingMemory",
    agents.ThreadClient: "BlockingThread",
    agents.StoredAgents: "BlockingStoredAgents",
    agents.StoredAgentClient: "BlockingStoredAgent",
    agents.BackgroundTasks: "BlockingTasks",
}
NAMES = {made.__name__: name for made, name in CLASSES.items()} | STREAMS
HIDDEN = {"ask", "frames", "connection"}
HEAD = '''"""`perdure.client` for code that does not await: `from perdure.client.blocking import BlockingClient`.

A client has an event loop of its own, which runs in the caller's thread while the caller waits; nothing goes on between
two calls. This file is made from the async client by tests/support/blocking_client.py: change that one, not this.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Unpack

from perdure.client.agents import (
    AgentClient,
    AgentResult,
    BackgroundTasks,
    MemoryClient,
    StoredAgentClient,
    StoredAgents,
    ThreadClient,
)
from perdure.client.agents.agent import Status
from perdure.client.agents.options import RunOptions, TurnOptions
from perdure.client.agents.stored import RecordStatus
from perdure.client.agents.tools import ClientTools
from perdure.client.client import DEFAULT_URL, Client, EventLike
from perdure.client.shapes import ReplayInfo, RunInfo, RunPage, Span
from perdure.client.waiting import Blocking, BlockingReader, BlockingStream, BlockingSubscription, Waiter
from perdure.model.json import Json
from perdure.model.keys import NO_EVENT_KEY
'''


def source() -> str:
    """The file."""
    return HEAD + "".join(_class(made, name) for made, name in CLASSES.items())


def _class(made: type, name: str) -> str:
    is_client = made is client.Client
    lines = ["", "", f"class {name}(Blocking):" if not is_client else f"class {name}(Waiter):"]
    lines.append(f'    """`{made.__name__}`, blocking."""')
    lines += ["", *(_opened() if is_client else _made(made))]
    for attribute, found in _public(made):
        lines += ["", *(_property(attribute, found) if isinstance(found, property) else _method(attribute, found))]
    return "\n".join(lines) + "\n"


def _public(made: type) -> list[tuple[str, Json]]:
    """Methods and properties in the order in which they are written, those of the class first."""
    found: dict[str, Json] = {}
    for each in made.__mro__:
        for name, value in vars(each).items():
            if not name.startswith("_") and name not in HIDDEN and name not in found and each is not object:
                found[name] = value
    return [(name, value) for name, value in found.items() if isinstance(value, property) or callable(value)]


def _opened() -> list[str]:
    parameters = inspect.signature(client.Client.__init__).parameters.values()
    defaults = {"http://127.0.0.1:8288": "DEFAULT_URL", "NO_EVENT_KEY": "NO_EVENT_KEY"}
    texts = [_parameter(each, defaults) for each in parameters if each.name != "self"]
    keywords = [f"{each.name}={each.name}" for each in parameters if each.name not in ("self", "base_url")]
    return [
        f"    def __init__(self, {texts[0]}, *, {', '.join(texts[1:])}) -> None:",
        f"        self._it = Client(base_url, {', '.join(keywords)})",
        "        super().__init__(self._it)",
    ]


def _made(made: type) -> list[str]:
    return [
        f"    def __init__(self, it: {made.__name__}, waiter: Waiter) -> None:",
        "        super().__init__(waiter)",
        "        self._it = it",
    ]


def _property(name: str, found: property) -> list[str]:
    kind = str(inspect.signature(found.fget).return_annotation) if found.fget is not None else "Json"
    head = ["    @property", f"    def {name}(self) -> {NAMES.get(kind, kind)}:", f'        """{_about(found)}"""']
    return [*head, f"        return {_wrapped(kind, f'self._it.{name}')}"]


def _method(name: str, found: Json) -> list[str]:
    signature = inspect.signature(found)
    parameters = [each for each in signature.parameters.values() if each.name != "self"]
    kind = str(signature.return_annotation)
    call = f"self._it.{name}({', '.join(map(_passed, parameters))})"
    shown = ["self"]
    for each in parameters:
        if each.kind is inspect.Parameter.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        shown.append(_parameter(each, {}))
    about = f'        """{_about(found)}"""'
    if inspect.isasyncgenfunction(found):
        kind = "Iterator[" + kind.removeprefix("AsyncGenerator[")
        body = f"        return self._each({call})"
    elif inspect.iscoroutinefunction(found):
        body = f"        return self._wait({call})"
    else:
        body = f"        return {_wrapped(kind, call)}"
    # A method called `list` hides the type in its class.
    result = NAMES.get(kind, kind).replace("list[", "builtins.list[")
    return [f"    def {name}({', '.join(shown)}) -> {result}:", about, body]


def _wrapped(kind: str, value: str) -> str:
    waiter = "self" if kind == "" else "self._waiter"
    return f"{NAMES[kind]}({value}, {waiter})" if kind in NAMES else value


def _about(found: Json) -> str:
    return (inspect.getdoc(found) or "").split("\n", 1)[0].replace("\\", "\\\\")


def _parameter(each: inspect.Parameter, named: dict[str, str]) -> str:
    stars = "**" if each.kind is inspect.Parameter.VAR_KEYWORD else ""
    annotation = str(each.annotation).replace("list[", "builtins.list[")
    if each.default is inspect.Parameter.empty:
        return f"{stars}{each.name}: {annotation}"
    default = named.get(str(each.default), "NO_EVENT_KEY" if each.name == "event_key" else repr(each.default))
    return f"{each.name}: {annotation} = {default}"


def _passed(each: inspect.Parameter) -> str:
    if each.kind is inspect.Parameter.VAR_KEYWORD:
        return f"**{each.name}"
    return f"{each.name}={each.name}" if each.kind is inspect.Parameter.KEYWORD_ONLY else each.name


def formatted(text: str) -> str:
    """The file as the formatter leaves it."""
    ruff = Path(sys.executable).parent / "ruff"
    done = subprocess.run(
        [ruff, "format", "--no-cache", "--stdin-filename", str(FILE), "-"],
        input=text, capture_output=True, text=True, check=True, cwd=FILE.parents[3],
    )  # fmt: skip
    return done.stdout


if __name__ == "__main__":
    assert api.AgentsApi in client.Client.__mro__
    FILE.write_text(formatted(source()), encoding="utf-8")

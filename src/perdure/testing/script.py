"""Scripts for models: what a scripted model, or a stub server, answers to whom.

A script is a list of turns, one for each request in order; or a function of what was asked; or, without either, the
directives that stand in the last text of the user:

| text | answer |
|---|---|
| `!tool add {"a": 1}` | calls a tool; once it has a result, `Tool said: [...]` |
| `!tools add {"a": 1} \\| find {}` | calls several at once |
| `!saytool add {}` | says `Let me check.` and calls |
| `!chain add {} \\| find {}` | calls one after the other, then `Chain done: 2` |
| `!reason why` | thinks, then `Reasoned: why` |
| `!json {"name": "Ada"}` | answers that JSON |
| `!source`, `!file` | names a source, makes a file |
| `!slow 8 120` | eight words, 120 ms before each |
| `!slowtool 300 add {}` | waits 300 ms, then calls |
| `!length` | is cut off |
| `!error text` | refuses (status 400), with `mock model failure` when nothing is said |
| `!unavailable text` | cannot answer now (status 503), however often it is asked |
| `!miderror text` | says `partial text`, and breaks off |
| `!net agent:research topic > tool:add {}` | routes to one after the other, in a network's answers |
| `!prompt` | the conversation as JSON |
| a conversation that a title is wanted for | `Mock generated title` |
| anything else | `Echo: <text>`; behind results of tools, `Results: [...]` |

Invariant: an answer to directives depends on the conversation alone, ids included, so that the same request after a
crash, or in another process, is answered the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from perdure.model.json import InvalidJsonError, Json, decode, encode


@dataclass(frozen=True, slots=True)
class Text:
    """Text, said word by word; `pause` ms before each."""

    text: str
    pause: int = 0


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A thought, word by word."""

    text: str
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool. Without an `id` it is numbered by its place in the conversation (`call_1`)."""

    name: str
    args: Json = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A page that the answer has something from."""

    url: str
    title: str


@dataclass(frozen=True, slots=True)
class File:
    """A file that the model makes; `data` is base64."""

    data: str
    mime_type: str


@dataclass(frozen=True, slots=True)
class Delay:
    """Nothing for a while, in ms."""

    ms: int


@dataclass(frozen=True, slots=True)
class Fail:
    """An error: as the first piece with an HTTP status, later in the middle of the stream.

    `retry_after` is in seconds. 408, 409, 429 and 5xx may be retried, others not.
    """

    message: str = "The model is overloaded"
    status: int = 503
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Break:
    """The connection breaks off."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Why the answer ends: `stop`, `length`, `tool-calls`, `content-filter`. Without it, what fits."""

    reason: str


@dataclass(frozen=True, slots=True)
class Spent:
    """The tokens of the turn; 10 and 5 without it."""

    input_tokens: int = 10
    output_tokens: int = 5
    reasoning_tokens: int = 0
    cached_input_tokens: int = 0


TITLE: Final = "Mock generated title"
"""What a conversation is called when the system's text asks for a title."""

Piece: TypeAlias = Text | Reasoning | ToolCall | Source | File | Delay | Fail | Break | Finish | Spent
Turn: TypeAlias = str | Piece | Sequence[str | Piece]
"""One answer: its pieces in order. A text alone is a `Text`."""


@dataclass(slots=True)
class Asked:
    """What a script sees of a request.

    `messages` are `{"role", "text"}` of the conversation; `results` came after the last text of the user, as `{"type",
    "value"}`; `calls` counts the tool calls of the whole conversation, `request` the requests so far (from 0).
    """

    messages: list[dict[str, str]]
    results: list[dict[str, Json]] = field(default_factory=list)
    calls: int = 0
    request: int = 0
    tools: list[str] = field(default_factory=list)
    schema: dict[str, Json] | None = None

    @property
    def text(self) -> str:
        """The last text of the user."""
        return next((one["text"] for one in reversed(self.messages) if one["role"] == "user"), "")


class Script:
    """Answers requests: by its turns, by a function, or by the directives in what is asked.

    >>> script = Script()
    >>> script.answer(Asked([{"role": "user", "text": "Hello"}]))
    [Text(text='Echo: Hello', pause=0)]
    """

    def __init__(self, turns: Sequence[Turn] | Callable[[Asked], Turn] | None = None) -> None:
        self._turns = turns
        self._given = 0

    def answer(self, asked: Asked) -> list[Piece]:
        """The pieces of the next answer, ids of calls filled in. Raises `IndexError` past the last turn."""
        turn = self._turn(asked)
        pieces = [turn] if isinstance(turn, str) or not isinstance(turn, Sequence) else list(turn)
        made: list[Piece] = []
        calls = asked.calls
        for piece in pieces:
            if isinstance(piece, str):
                made.append(Text(piece))
            elif isinstance(piece, ToolCall) and piece.id is None:
                calls += 1
                made.append(ToolCall(piece.name, piece.args, f"call_{calls}"))
            else:
                made.append(piece)
        return made

    def _turn(self, asked: Asked) -> Turn:
        if self._turns is None:
            return directive(asked)
        if callable(self._turns):
            return self._turns(asked)
        if self._given >= len(self._turns):
            raise IndexError(f"the script has {len(self._turns)} turns, and there was one more request")
        self._given += 1
        return self._turns[self._given - 1]


def directive(asked: Asked) -> Turn:
    """The turn that the last text of the user asks for; see the module's table."""
    routed = _route(asked)
    if routed is not None:
        return routed
    if asked.text.startswith("User: ") and any(
        "title" in one["text"] for one in asked.messages if one["role"] == "system"
    ):
        return TITLE
    found = re.match(r"!(\w+)\s*(.*)", asked.text.strip(), re.DOTALL)
    make = _DIRECTIVES.get(found[1]) if found else None
    if found is None or make is None:
        return f"Results: {encode(asked.results).decode()}" if asked.results else f"Echo: {asked.text}"
    return make(asked, found[2].strip())


def _calls(text: str) -> list[ToolCall]:
    """`add {"a": 1} | find {}` as calls. What is no JSON stays as it is."""
    calls = []
    for one in text.split(" | "):
        name, _, args = one.strip().partition(" ")
        try:
            calls.append(ToolCall(name, decode(args or "{}")))
        except InvalidJsonError:
            calls.append(ToolCall(name, args))
    return calls


def _tools(asked: Asked, rest: str) -> Turn:
    if asked.results:
        return f"Tool said: {encode(asked.results).decode()}"
    return _calls(rest)


def _saytool(asked: Asked, rest: str) -> Turn:
    if asked.results:
        return _tools(asked, rest)
    return ["Let me check.", *_calls(rest)]


def _slowtool(asked: Asked, rest: str) -> Turn:
    ms, _, call = rest.partition(" ")
    if asked.results:
        return _tools(asked, call)
    return [Delay(int(ms)), *_calls(call)]


def _chain(asked: Asked, rest: str) -> Turn:
    calls, done = _calls(rest), len(asked.results)
    return calls[done] if done < len(calls) else f"Chain done: {done}"


def _slow(asked: Asked, rest: str) -> Turn:
    count, _, pause = rest.partition(" ")
    return Text(" ".join(f"w{index}" for index in range(int(count))), int(pause or 0))


def _prompt(asked: Asked, rest: str) -> Turn:
    return encode(asked.messages).decode()


_DIRECTIVES: Final[dict[str, Callable[[Asked, str], Turn]]] = {
    "tool": _tools,
    "tools": _tools,
    "saytool": _saytool,
    "slowtool": _slowtool,
    "chain": _chain,
    "slow": _slow,
    "prompt": _prompt,
    "reason": lambda asked, rest: [Reasoning("I think, therefore I answer."), f"Reasoned: {rest}"],
    "json": lambda asked, rest: rest,
    "source": lambda asked, rest: ["See source.", Source("https://example.com/a", "Example A")],
    "file": lambda asked, rest: ["See file.", File("aGVsbG8=", "text/plain")],
    "length": lambda asked, rest: ["Cut off", Finish("length")],
    "error": lambda asked, rest: Fail(rest or "mock model failure", 400),
    "unavailable": lambda asked, rest: Fail(rest or "unavailable", 503),
    "miderror": lambda asked, rest: ["partial text", Fail(rest or "error", 400)],
}


def _route(asked: Asked) -> Turn | None:
    """What the router of a network answers, who asks for an object with a primitive's id, or whether all is done."""
    fields = (asked.schema or {}).get("properties") or {}
    if "primitiveId" not in fields and "isComplete" not in fields:
        return None
    texts = [one["text"] for one in asked.messages]
    steps = next((found[1] for text in reversed(texts) if (found := re.search(r"!net (.+)", text))), "")
    wanted = [step.strip() for step in steps.split(" > ") if step.strip()]
    done = sum('"primitiveId"' in one["text"] for one in asked.messages if one["role"] == "assistant")
    if "primitiveId" not in fields:
        return encode(
            {
                "isComplete": done >= len(wanted),
                "completionReason": "all primitives done" if done >= len(wanted) else "more to do",
                "finalResult": "Final network answer.",
            }
        ).decode()
    kind, _, rest = (wanted[done] if done < len(wanted) else "none:none").partition(":")
    primitive, _, prompt = rest.partition(" ")
    picked = {
        "primitiveId": primitive,
        "primitiveType": kind,
        "prompt": prompt,
        "selectionReason": f"picked {primitive}",
    }
    return encode(picked).decode()


def words(text: str) -> list[str]:
    """A text in the pieces in which it is said.

    >>> words("Tell me a story")
    ['Tell ', 'me ', 'a ', 'story']
    """
    return re.findall(r"\s*\S+\s*", text) if text.strip() else [text] if text else []


def slices(text: str, size: int = 10) -> list[str]:
    """Arguments in the pieces in which they come."""
    return [text[start : start + size] for start in range(0, len(text), size)]


def shown(value: Json, failed: bool = False) -> dict[str, Json]:
    """The result of a tool as a script sees it.

    >>> shown({"sum": 3}), shown("fine"), shown("no", failed=True)
    ({'type': 'json', 'value': {'sum': 3}}, {'type': 'text', 'value': 'fine'}, {'type': 'error-text', 'value': 'no'})
    """
    if failed:
        return {"type": "error-text", "value": value}
    return {"type": "text" if isinstance(value, str) else "json", "value": value}

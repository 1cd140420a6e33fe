"""From the log of a run to the chunks that a reader is shown: a fold over events, without input or output.

Three views. "committed": nothing that had been taken back before the reader came; what a step says comes at once, and
where it is taken back while one reads, one chunk `step-rollback` says so. "settled": only chunks of recorded steps.
"live": everything that was ever said, with the rollbacks.

Invariants: indices grow in every view, and reading on from any of them gives the rest; a chunk that ends the run is
shown only once its step is recorded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

from perdure.agents.chunks import AGENT, Chunk
from perdure.agents.errors import GoneError
from perdure.agents.journal import INSIDE
from perdure.model.ids import step_hash
from perdure.model.json import Json
from perdure.model.streams import StreamEvent

View: TypeAlias = Literal["committed", "live", "settled"]
VIEWS: Final = ("committed", "live", "settled")
ROLLBACK: Final = "step-rollback"

_END: Final = frozenset({"finish", "network-execution-event-finish"})
_HELD: Final = _END | {"abort"}
"""Kinds that wait for the commit of their step: who hears them, leaves."""
_ASKED: Final = frozenset(
    {
        *("tool-call-approval", "tool-call-suspended", "tool-execution-approval", "tool-execution-suspended"),
        *("agent-execution-approval", "agent-execution-suspended", "workflow-execution-suspended"),
    }
)
_SETTLED: Final = frozenset({"tool-result", "tool-error", "tool-output-denied"})
_ANEW: Final = frozenset({"step-start", "network-validation-start"})
"""Kinds with which a turn begins: what was asked before is decided."""
_EVENT: Final = "agent-execution-event-"
"""How a network tells what its sub-agents say."""
_COUNTED: Final = frozenset({"tool-call"}) | _ANEW | _ASKED | _SETTLED


class Turn:
    """What became of the tool calls since the last model call. A run is suspended when only questions are left.

    Calls are known by their paths: a sub-agent's call `h1` inside the call `c1` is `c1>h1`, and `c1` is as they are.
    """

    def __init__(self) -> None:
        self._calls: dict[str, str] = {}
        self._staged: dict[str, list[Chunk]] = {}
        self.announced: set[str] = set()
        """The hashes of the arguments about which the run itself has asked."""

    @property
    def asked(self) -> frozenset[str]:
        """The paths of the calls that have a question."""
        return frozenset(path for path, state in self._leaves() if state == "asked")

    @property
    def suspended(self) -> bool:
        """Whether there is a question, and every other call is settled."""
        states = {state for _, state in self._leaves()}
        return "asked" in states and "open" not in states

    def note(self, said: Chunk) -> None:
        """Takes a chunk into account: at once, or once its step is recorded."""
        if said.type not in _COUNTED and _inside(said) is None:
            return
        if said.type in _ASKED:
            self.announced.add(str(said.payload.get("argsHash")))
        if said.step is None:
            self._apply(said, "")
        else:
            self._staged.setdefault(said.step, []).append(said)

    def commit(self, step: str) -> None:
        """A step is recorded."""
        for said in self._staged.pop(step, ()):
            self._apply(said, "")

    def rollback(self, step: str) -> None:
        """An attempt of a step counts for nothing."""
        self._staged.pop(step, None)

    def _leaves(self) -> list[tuple[str, str]]:
        outer = {path.rpartition(INSIDE)[0] for path in self._calls}
        return [(path, state) for path, state in self._calls.items() if path not in outer]

    def _apply(self, said: Chunk, path: str) -> None:
        inner = _inside(said)
        if inner is not None:
            self._apply(inner[1], f"{path}{inner[0]}{INSIDE}")
            return
        payload = said.payload
        call = path + str(payload.get("toolCallId", "")).partition(INSIDE)[0]
        if said.type in _ANEW:
            self._calls = {known: state for known, state in self._calls.items() if path and not known.startswith(path)}
            if path:
                # The sub-agent's model is asked again: its call goes on.
                self._calls[path.removesuffix(INSIDE)] = "open"
        elif said.type == "tool-call":
            if not payload.get("providerExecuted"):
                self._calls[call] = "open"
        elif said.type in _ASKED:
            self._calls[call] = "asked"
        else:
            below = call + INSIDE
            self._calls = {known: state for known, state in self._calls.items() if not known.startswith(below)}
            self._calls[call] = "done"


def _inside(said: Chunk) -> tuple[str, Chunk] | None:
    """The call of a sub-agent and what it says, where a chunk forwards something that counts."""
    if said.type == "tool-output":
        call, inner = said.payload.get("toolCallId"), said.payload.get("output")
    elif said.type.startswith(_EVENT):
        inner = said.payload
        call = str(inner.get("runId", "")).removeprefix(f"{said.run_id}.")
    else:
        return None
    if not isinstance(inner, dict) or not isinstance(call, str) or "runId" not in inner:
        return None
    found = Chunk(inner)
    counts = inner.get("type") in _COUNTED or (inner.get("type") == "tool-output" and _inside(found) is not None)
    return (call, found) if counts else None


class LogView:
    """Takes the events of a run's log in order, and gives the chunks to show after a place in it.

    What stands up to that place may be known (`prime`), and is not shown again; only the end of the run always is.
    """

    def __init__(self, run_id: str, view: View = "committed", after: int = 0) -> None:
        self.turn = Turn()
        self.cursor = 0
        self.response: StreamEvent | None = None
        self.usage: dict[str, int] = {}
        """The tokens of the steps that are recorded."""
        self.finish: Chunk | None = None
        """The chunk that has ended the run."""
        self._run_id = run_id
        self._after = after
        self._view = view
        self._names = _Names()
        self._first: dict[str, int] = {}
        self._held: dict[str, list[Chunk]] = {}
        self._spent: dict[str, dict[str, int]] = {}
        self._attempts: dict[str, int] = {}
        self._queue: deque[tuple[str | None, Chunk]] = deque()

    def prime(self, events: Iterable[StreamEvent], until: int) -> bool:
        """Knows what is in the log up to an offset; whether that has been reached."""
        for event in events:
            if event.offset > until:
                return True
            self._take(event)
        return self.cursor >= until

    def take(self, events: Iterable[StreamEvent]) -> list[Chunk]:
        """What is to be shown of the next events."""
        return [
            said for event in events for said in self._take(event) if said.index > self._after or said is self.finish
        ]

    def _take(self, event: StreamEvent) -> list[Chunk]:
        self.cursor = event.offset
        step = event.step
        if event.kind == "data":
            return self._data(event)
        if event.kind == "commit" and step is not None:
            self.turn.commit(step)
            self._first.pop(step, None)
            self._count(self._spent.pop(step, {}))
            return self._show_held(self._held.pop(step, [])) + self._settle(step, event.offset, counts=True)
        if event.kind == "rollback" and step is not None:
            return self._rollback(step, event.offset)
        if event.kind == "response":
            self.response = event
        return []

    def _data(self, event: StreamEvent) -> list[Chunk]:
        content = event.data
        if not isinstance(content, dict) or not isinstance(content.get("type"), str):
            # Something else that the handler's code has streamed.
            return []
        first = content.get("firstIndex")
        if isinstance(first, int) and first <= self._after < event.offset:
            raise GoneError(
                f"run {self._run_id!r}: the chunks from {first} to {event.offset} were put together since it ended: "
                f"observe it with offset={first - 1}, or from the beginning"
            )
        said = Chunk(content, event.offset, event.step)
        self.turn.note(said)
        self._names.note(said)
        step = said.step
        if step is None:
            return self._show_held([said])
        self._first.setdefault(step, event.offset)
        if said.type == "step-finish":
            self._spent[step] = said.payload.get("output", {}).get("usage") or {}
        if self._view == "settled":
            self._queue.append((step, said))
            return []
        if said.type in _HELD or step in self._held:
            self._held.setdefault(step, []).append(said)
            return []
        return [said]

    def _show_held(self, held: list[Chunk]) -> list[Chunk]:
        for said in held:
            self._end(said)
        if self._view == "settled":
            self._queue.extend((None, said) for said in held)
            return self._settled()
        return held

    def _end(self, said: Chunk) -> None:
        if said.type in _END and not said.payload.get("backgroundTaskPending"):
            self.finish = said

    def _rollback(self, step: str, offset: int) -> list[Chunk]:
        self.turn.rollback(step)
        self._held.pop(step, None)
        self._spent.pop(step, None)
        attempt = self._attempts[step] = self._attempts.get(step, 0) + 1
        first = self._first.pop(step, None)
        if self._view == "settled":
            return self._settle(step, offset, counts=False)
        if first is None:
            return []
        told: dict[str, Json] = {"stepId": self._names.of(step), "fromIndex": first, "attempt": attempt}
        content = {"type": ROLLBACK, "runId": self._run_id, "from": AGENT, "payload": told}
        return [Chunk(content, offset, step)]

    def _count(self, usage: dict[str, int]) -> None:
        for key, tokens in usage.items():
            if isinstance(tokens, int):
                self.usage[key] = self.usage.get(key, 0) + tokens

    # The settled view: in the order of the log, each chunk once everything before it is decided.

    def _settle(self, step: str, offset: int, *, counts: bool) -> list[Chunk]:
        if self._view != "settled":
            return []
        decided = [(None if of == step and said.index < offset else of, said) for of, said in self._queue]
        if not counts:
            taken_back = {said.index for of, said in self._queue if of == step}
            decided = [(of, said) for of, said in decided if said.index not in taken_back]
        self._queue = deque(decided)
        return self._settled()

    def _settled(self) -> list[Chunk]:
        shown: list[Chunk] = []
        while self._queue and self._queue[0][0] is None:
            said = self._queue.popleft()[1]
            self._end(said)
            shown.append(said)
        return shown


class _Names:
    """The ids of steps by their hashes: those of model calls are counted, those of tools follow from their calls."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {step_hash("llm:0"): "llm:0", step_hash("finish"): "finish"}

    def note(self, said: Chunk) -> None:
        call = said.payload.get("toolCallId") if said.type == "tool-call" else None
        if isinstance(call, str):
            for kind in ("tool", "ask", "sub"):
                name = f"{kind}:{call}"
                self._known[step_hash(name)] = name
        elif said.type == "step-start":
            told = said.payload.get("stepId")
            if isinstance(told, str) and said.step is not None:
                self._known[said.step] = told

    def of(self, step: str) -> str:
        """The id of a step, or its hash where nothing tells the id."""
        return self._known.get(step, step)

"""The state of a run: a fold over what its steps recorded.

Each `llm:<n>` records one `TurnRecord`, each `tool:<id>` one outcome; messages, usage and text are derived from them.

Invariants: nothing that a step recorded is recorded again by a later one; message ids follow from the run's id and the
step's number, so that saving them twice is harmless.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from perdure.agents.chunks import Chunk
from perdure.agents.inputs import message_from_json, message_to_json
from perdure.agents.journal import Question
from perdure.agents.messages import Message, ToolInvocation, Usage
from perdure.agents.models.call import Answer
from perdure.agents.options import RunOptions
from perdure.agents.ports import Arrived
from perdure.agents.responding import asked_metadata, joined, step_metadata, step_parts
from perdure.model.json import Json


class RunInput(msgspec.Struct, rename="camel", omit_defaults=True):
    """What a run is started with: all of it is data. `messages` are in JSON; `started_at` is in ms.

    With `network` the agent hands the task to others instead of answering itself.
    """

    run_id: str
    agent_id: str
    messages: list[Json]
    options: RunOptions
    started_at: int
    thread_id: str | None = None
    resource_id: str | None = None
    network: bool = False

    def to_json(self) -> dict[str, Json]:
        """As it is stored."""
        plain: dict[str, Json] = msgspec.to_builtins(self)
        return plain

    @classmethod
    def from_json(cls, plain: Json) -> RunInput:
        """What `to_json` gave. Raises `msgspec.ValidationError`."""
        return msgspec.convert(plain, cls)

    def read(self) -> list[Message]:
        """The messages."""
        return [message_from_json(plain, f"messages[{i}]") for i, plain in enumerate(self.messages)]


class RunResult(msgspec.Struct, rename="camel", omit_defaults=True):
    """How a run ended. `text` is the last step's; `usage` and `cost` (USD) are totals."""

    run_id: str
    finish_reason: str
    text: str
    usage: Usage
    steps: int
    cost: float | None = None
    object: Json = None
    error: dict[str, Json] | None = None
    tripwire: dict[str, Json] | None = None
    scores: list[dict[str, Json]] = []

    def to_json(self) -> dict[str, Json]:
        """As a function returns it."""
        plain: dict[str, Json] = msgspec.to_builtins(self)
        return plain


@dataclass
class Turn:
    """One `llm:<n>`: what it recorded.

    `late` came in at its end; `gated` are calls that need approval; `background` has the plans of calls that become
    tasks, `tasks` what has come of earlier ones; `waiting` says that the run waits for its tasks after it; `retry`
    is what a processor found wrong with an answer that does not count; `stopped` says that the run ended before the
    model was asked; `done` that `finish` has been said; `reason` is the run's finish reason where it ends here.
    """

    number: int
    answer: Answer | None = None
    arrived: list[Arrived] = field(default_factory=list)
    late: list[Arrived] = field(default_factory=list)
    gated: list[str] = field(default_factory=list)
    background: dict[str, Json] = field(default_factory=dict)
    tasks: list[dict[str, Json]] = field(default_factory=list)
    waiting: bool = False
    input: list[Message] | None = None
    until: Json = None
    object: Json = None
    error: dict[str, Json] | None = None
    tripwire: dict[str, Json] | None = None
    retry: str | None = None
    stopped: bool = False
    done: bool = False
    reason: str | None = None

    def to_json(self) -> dict[str, Json]:
        """What the step records; what is empty is left out."""
        plain: dict[str, Json] = {
            "answer": None if self.answer is None else self.answer.to_json(),
            "arrived": [_arrived_to_json(item) for item in self.arrived],
            "late": [_arrived_to_json(item) for item in self.late],
            "gated": self.gated,
            "background": self.background,
            "tasks": self.tasks,
            "waiting": self.waiting,
            "input": None if self.input is None else [message_to_json(message) for message in self.input],
            "until": self.until,
            "object": self.object,
            "error": self.error,
            "tripwire": self.tripwire,
            "retry": self.retry,
            "stopped": self.stopped,
            "done": self.done,
            "reason": self.reason,
        }
        return {key: value for key, value in plain.items() if value not in (None, [], {}, False)}

    @classmethod
    def from_json(cls, number: int, plain: dict[str, Json]) -> Turn:
        """What `to_json` gave."""
        given = plain.get("input")
        return cls(
            number,
            answer=Answer.from_json(plain["answer"]) if "answer" in plain else None,
            arrived=[_arrived_from_json(item) for item in plain.get("arrived", [])],
            late=[_arrived_from_json(item) for item in plain.get("late", [])],
            gated=plain.get("gated", []),
            background=plain.get("background", {}),
            tasks=plain.get("tasks", []),
            waiting=plain.get("waiting", False),
            input=None if given is None else [message_from_json(item) for item in given],
            until=plain.get("until"),
            object=plain.get("object"),
            error=plain.get("error"),
            tripwire=plain.get("tripwire"),
            retry=plain.get("retry"),
            stopped=plain.get("stopped", False),
            done=plain.get("done", False),
            reason=plain.get("reason"),
        )

    @property
    def calls(self) -> list[ToolInvocation]:
        """The calls that are to be carried out, by us or by the caller."""
        if self.answer is None or self.retry is not None:
            return []
        return [part.tool_invocation for part in self.answer.tool_calls]


class RunState:
    """What a run has come to."""

    def __init__(self, request: RunInput) -> None:
        self.request = request
        self.input = request.read()
        self.turns: list[Turn] = []
        self.outcomes: dict[str, dict[str, Json]] = {}
        self.reported: dict[str, dict[str, Json]] = {}
        """What the background tasks of calls have come to, as turns have recorded it."""
        self.fresh: dict[str, dict[str, Json]] = {}
        """The same of the attempt at a turn that goes on."""
        self.arriving = False
        """Whether something has come in before that attempt."""

    @property
    def last(self) -> Turn | None:
        """The last turn, if there was one."""
        return self.turns[-1] if self.turns else None

    def add(self, turn: Turn) -> None:
        """Adds a turn."""
        if turn.input is not None:
            self.input = turn.input
        self.fresh, self.arriving = {}, False
        self.reported |= {item["toolCallId"]: item["outcome"] for item in turn.tasks}
        self.turns.append(turn)

    def settle(self, tool_call_id: str, outcome: dict[str, Json]) -> None:
        """Adds what came of a call."""
        self.outcomes[tool_call_id] = outcome

    def message_id(self, number: int) -> str:
        """The id of the message into which step `number` goes; it follows from the step with which it begins."""
        return f"{self.request.run_id}-m{self.begins(number)}"

    def begins(self, number: int) -> int:
        """The step with which the message of step `number` begins: somebody has had his say before it, or it is 0."""
        while number > 0 and not self._parted(number):
            number -= 1
        return number

    def _parted(self, number: int) -> bool:
        before = self.turns[number - 1]
        arrived = bool(self.turns[number].arrived) if number < len(self.turns) else self.arriving
        answered = any(self.outcomes.get(call.tool_call_id, {}).get("answered") for call in before.calls)
        return arrived or answered or bool(before.late) or before.waiting

    def message_of(self, tool_call_id: str) -> str:
        """The id of the message in which a tool call stands."""
        for turn in self.turns:
            if any(call.tool_call_id == tool_call_id for call in turn.calls):
                return self.message_id(turn.number)
        return self.message_id(len(self.turns))

    @property
    def begun_at(self) -> int:
        """The number of the turn with which the run went on last, after it had waited for its tasks."""
        return max((turn.number + 1 for turn in self.turns if turn.waiting), default=0)

    def response(self) -> list[Message]:
        """What the run has added to the conversation, in order."""
        return self.told(self.turns)

    def told(self, turns: Sequence[Turn], *, lasting: bool = False) -> list[Message]:
        """What turns have added to the conversation; only what belongs into the memory where it has to be `lasting`."""
        messages: list[Message] = []
        for turn in turns:
            messages += _came_in(turn.arrived, lasting)
            if turn.answer is not None and turn.retry is None and turn.answer.parts:
                joined(messages, self._assistant(turn, turn.answer), f"{turn.answer.provider}/{turn.answer.model}")
            messages += _came_in(turn.late, lasting)
        return messages

    def kept(
        self, since: int, turn: Turn | None = None, *, asked: Mapping[str, Question] | None = None
    ) -> list[Message]:
        """What belongs into the memory, from the message of step `since` on; `turn` is one that goes on.

        The last message has the questions that are open: `asked`, by their places.
        """
        turns = [*self.turns, turn] if turn is not None else self.turns
        messages = self.told(turns[self.begins(since) :], lasting=True)
        if asked and messages and messages[-1].role == "assistant":
            noted = {**messages[-1].metadata, **asked_metadata(self.request.run_id, asked)}
            messages[-1] = msgspec.structs.replace(messages[-1], metadata=noted)
        return messages

    def _assistant(self, turn: Turn, answer: Answer) -> Message:
        at = answer.timestamp or self.request.started_at
        outcomes = {
            call: {**outcome, **self.reported.get(call, {}), **self.fresh.get(call, {})}
            for call, outcome in self.outcomes.items()
        }
        return Message(
            self.message_id(turn.number),
            "assistant",
            step_parts(answer, outcomes, at),
            at,
            self.request.thread_id,
            self.request.resource_id,
            metadata=step_metadata(answer, outcomes),
        )

    @property
    def usage(self) -> Usage:
        """Tokens of all steps."""
        return sum((turn.answer.usage for turn in self.turns if turn.answer is not None), Usage())

    @property
    def cost(self) -> float | None:
        """USD of all steps; None where no price is known."""
        costs = [turn.answer.cost for turn in self.turns if turn.answer is not None and turn.answer.cost is not None]
        return sum(costs) if costs else None

    @property
    def text(self) -> str:
        """The text of the last answer."""
        for turn in reversed(self.turns):
            if turn.answer is not None and turn.retry is None:
                return turn.answer.text
        return ""

    def used_ids(self) -> set[str]:
        """The ids of all tool calls so far."""
        return {call.tool_call_id for turn in self.turns for call in turn.calls}

    def repeats(self, call: ToolInvocation) -> int:
        """How many times in a row, this one included, the same tool was called with the same arguments."""
        count = 0
        calls = [known for turn in self.turns for known in turn.calls]
        position = next((i for i, known in enumerate(calls) if known.tool_call_id == call.tool_call_id), len(calls) - 1)
        for known in reversed(calls[: position + 1]):
            if known.tool_name != call.tool_name or known.args != call.args:
                break
            count += 1
        return count

    def retries(self) -> int:
        """How many answers in a row did not count."""
        count = 0
        for turn in reversed(self.turns):
            if turn.retry is None:
                break
            count += 1
        return count

    def result(self, reason: str) -> RunResult:
        """How the run ended."""
        last = self.last
        return RunResult(
            run_id=self.request.run_id,
            finish_reason=reason,
            text=self.text,
            usage=self.usage,
            steps=len(self.turns),
            cost=self.cost,
            object=last.object if last is not None else None,
            error=last.error if last is not None else None,
            tripwire=last.tripwire if last is not None else None,
        )


def _came_in(items: Sequence[Arrived], lasting: bool) -> list[Message]:
    return [item.message for item in items if not (lasting and item.transient)]


def _arrived_to_json(item: Arrived) -> dict[str, Json]:
    plain: dict[str, Json] = {"message": message_to_json(item.message)}
    if item.chunk is not None:
        plain["chunk"] = dict(item.chunk)
    if item.transient:
        plain["transient"] = True
    return plain


def _arrived_from_json(plain: dict[str, Json]) -> Arrived:
    said = plain.get("chunk")
    message = message_from_json(plain["message"])
    return Arrived(message, None if said is None else Chunk(said), plain.get("transient", False))

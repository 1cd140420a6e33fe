"""What a run has said so far, step by step, as results and the ends of steps tell it.

It is made of the run's chunks alone, those of earlier segments included. Invariant: chunks that were taken back do not
count (`Fold`), and what is known of a step's model call is that of the attempt that stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from perdure.agents.chunks import Chunk
from perdure.agents.fold import Fold, StepFold
from perdure.agents.messages import Approval, Message, Part, ToolPart, Usage
from perdure.agents.signals import as_prompt, parse_signal, signal_message
from perdure.model.json import Json, encode
from perdure.server.agents.shapes import APPROVAL, Said, iso, said_by_user, told_to_models

ASKING: Final = {"tool-call-approval": "approval", "tool-call-suspended": "suspension"}
"""Kinds of chunks that ask somebody, and for what."""
SIGNALS: Final = frozenset({"data-user-message", "data-signal"})
"""Kinds of chunks that tell of signals."""
EVENT: Final = "agent-execution-event-"
"""What the kinds of chunks begin with that tell of what a sub-agent of a network says."""
_KEPT: Final = {"approval": "pendingToolApprovals", "suspension": "suspendedTools"}
"""Where a message keeps questions."""
_TASK_ENDS: Final = frozenset(f"background-task-{end}" for end in ("completed", "failed", "cancelled"))
_OURS: Final = frozenset({"argsHash", "type", "questions"})
_ANSWERS: Final = frozenset({"tool-result", "tool-error", "tool-output-denied"})


class ModelCall(msgspec.Struct):
    """What is known of the model call of a step. `at` in ms, `timestamp` as the provider tells it."""

    at: int = 0
    id: str | None = None
    model: str = ""
    provider: str = ""
    timestamp: str | None = None
    usage: dict[str, Json] = {}

    def response(self) -> dict[str, Json]:
        """The response, as results tell it."""
        model = {"modelId": self.model, "modelVersion": "v2", "modelProvider": self.provider}
        told = {"id": self.id, "timestamp": self.timestamp or iso(self.at), "modelId": self.model}
        return {**told, "modelMetadata": model}


class Transcript:
    """Folds the chunks of one run. `given` are the messages that it was started with, as far as they are known.

    `remembers`: whether its agent has a memory.
    """

    def __init__(
        self,
        run_id: str,
        *,
        thread_id: str | None = None,
        resource_id: str | None = None,
        given: Iterable[Message] = (),
        before: Iterable[Chunk] = (),
        provider: str = "",
        remembers: bool = True,
    ) -> None:
        self.run_id = run_id
        self.remembers = remembers
        self.given = list(given)
        self.fold = Fold()
        self.execution: Chunk | None = None
        """What a network has begun, as long as it goes on."""
        self.signalled = False
        """Whether a signal came in after the last step."""
        self.nested: dict[str, list[Chunk]] = {}
        """What the sub-agents of a network have said, by their runs."""
        self._signals: list[tuple[int, bool, Json]] = []
        self._provider = provider
        self.thread_id = thread_id
        self._owner = (thread_id, resource_id)
        self._calls: dict[str, ModelCall] = {}
        self._asked: dict[str, Chunk] = {}
        self._ends: set[str] = set()
        self._tasks: set[str] = set()
        for said in before:
            self.take(said)

    def take(self, said: Chunk) -> None:
        """Adds a chunk."""
        self.fold.take(said)
        payload = said.payload
        if said.type == "step-start":
            self.signalled = False
        if said.type.startswith(EVENT):
            self.nested.setdefault(payload.get("runId", ""), []).append(Chunk(payload, said.index, said.step))
        elif said.type.endswith("-execution-start"):
            self.execution = said
        elif said.type.endswith("-execution-end"):
            self.execution = None
        elif said.type == "step-start":
            self._calls[_id(self.fold.step)] = ModelCall(payload.get("startedAt") or 0, provider=self._provider)
        elif said.type == "response-metadata":
            call = self.call(self.fold.step)
            call.id, call.model = payload.get("id"), payload.get("modelId") or ""
            call.timestamp = payload.get("timestamp")
        elif said.type == "step-finish":
            self._finished(payload)
        elif said.type == "background-task-started":
            self._tasks.add(payload.get("taskId", ""))
        elif said.type in _TASK_ENDS:
            self._tasks.discard(payload.get("taskId", ""))
        elif said.type in ASKING:
            self._asked[payload.get("toolCallId", "")] = said
        elif said.type in SIGNALS and self._calls:
            # What is said after a signal is a message of its own, too.
            self.signalled = True
            is_user = said.type == "data-user-message"
            self._signals.append((len(self.dated()), is_user, said_by_user(_signal_message(said))))
            self._ends.add(_id(self.fold.step))
        elif said.type in _ANSWERS and (question := self._asked.pop(payload.get("toolCallId", ""), None)):
            self._answered(said, question.type)

    def _finished(self, payload: dict[str, Json]) -> None:
        call, metadata = self.call(self.fold.step), payload.get("metadata") or {}
        call.id = metadata.get("id") or call.id
        call.model = metadata.get("modelId") or call.model
        call.provider = (metadata.get("modelMetadata") or {}).get("modelProvider") or call.provider
        failed = (payload.get("stepResult") or {}).get("reason") == "error"
        usage: dict[str, Json] = {} if failed else (payload.get("output") or {}).get("usage") or {}
        # Where a provider has told nothing of its own, it is what there is.
        call.usage = {**usage, "raw": usage.get("raw", counts(usage))} if usage else {}

    def _answered(self, said: Chunk, kind: str) -> None:
        """What is said after a question was answered is a message of its own."""
        self._ends.add(_id(self.fold.step))
        if kind != "tool-call-approval" or said.type != "tool-result":
            return
        for part in self.fold.step.parts:
            if isinstance(part, ToolPart) and part.tool_invocation.tool_call_id == said.payload["toolCallId"]:
                part.tool_invocation.approval = Approval(part.tool_invocation.tool_call_id, True)

    def call(self, step: StepFold) -> ModelCall:
        """The model call of a step."""
        return self._calls.setdefault(_id(step), ModelCall(provider=self._provider))

    @property
    def has_tasks(self) -> bool:
        """Whether tasks go on in the background."""
        return bool(self._tasks)

    @property
    def steps(self) -> list[StepFold]:
        """The steps that are over."""
        return [step for step in self.fold.steps if step.finish_reason is not None]

    def usage(self) -> dict[str, Json]:
        """The tokens of all steps, with what the provider reported of the last one; empty before one is over."""
        steps = self.steps
        if not steps:
            return {}
        total: dict[str, Json] = {**sum((step.usage for step in steps), Usage()).as_json()}
        raw = self.call(steps[-1]).usage.get("raw")
        return total if raw is None else {**total, "raw": raw}

    def dated(self, until: StepFold | None = None) -> list[tuple[int, list[Part]]]:
        """The parts of the steps with their times, up to and with a step."""
        found: list[tuple[int, list[Part]]] = []
        for step in self.fold.steps:
            parts = step.message(self.run_id).parts
            if parts:
                found.append((self.call(step).at, parts))
            if step is until:
                break
        return found

    def messages(self, until: StepFold | None = None) -> list[Said]:
        """The messages of the assistant, up to and with a step."""
        made: list[Said] = []
        fresh = True
        for step in self.fold.steps:
            call, parts = self.call(step), step.message(self.run_id).parts
            if parts:
                if fresh:
                    made.append(Said(_id(step), call.at, call.model, call.provider, [], *self._owner))
                fresh = False
                made[-1].steps.append((call.at, parts))
                made[-1].model, made[-1].provider = call.model, call.provider or made[-1].provider
            if made and self.answered(step):
                fresh, made[-1].metadata = True, {"mastra": {"responseBoundary": True}}
            if step is until:
                break
        if made:
            made[-1].metadata = {**made[-1].metadata, **self._metadata()}
        return made

    def answered(self, step: StepFold) -> bool:
        """Whether somebody has answered a question of a step."""
        return _id(step) in self._ends

    def message_id(self) -> str:
        """The id of the message that is being written."""
        found = _id(self.fold.step)
        for step in reversed(self.fold.steps[:-1]):
            if self.answered(step):
                break
            found = _id(step)
        return found

    def questions(self) -> list[Chunk]:
        """The open questions, each as the chunk that asks it."""
        return [asking(self._asked.get(call, found)) for call, found in self.fold.open_questions.items()]

    def model_messages(self, until: StepFold | None = None) -> dict[str, Json]:
        """The conversation as models are told it: what was given, and what the run has added."""
        user = [said_by_user(as_prompt(message)) for message in self.given if message.role in ("user", "signal")]
        steps = self.dated(until)
        every: list[Json] = list(user)
        added: list[Json] = []
        for place in range(len(steps) + 1):
            every += [message for after, _, message in self._signals if after == place]
            made = told_to_models(steps[place : place + 1])
            every += made
            added += made
        user += [message for _, by_user, message in self._signals if by_user]
        return {"all": every, "user": user, "nonUser": added}

    def _metadata(self) -> dict[str, Json]:
        found: dict[str, Json] = {}
        for question in self.questions():
            kind, call = ASKING[question.type], question.payload["toolCallId"]
            kept = {**question.payload, "type": kind, "runId": self.run_id}
            found.setdefault(_KEPT[kind], {})[call] = kept
        if self.fold.object is not None:
            found["structuredOutput"] = self.fold.object
        return found


def asking(question: Chunk) -> Chunk:
    """A question as it is asked: its schema is a text, and what only this server's agents know is left out."""
    kind: Json = question.payload.get("type") or ("approval" if question.type.endswith("-approval") else "suspension")
    payload = {key: value for key, value in question.payload.items() if key not in _OURS}
    if kind == "approval":
        payload["resumeSchema"] = APPROVAL
    if not isinstance(payload.get("resumeSchema", ""), str):
        payload["resumeSchema"] = encode(payload["resumeSchema"]).decode()
    type_ = "tool-call-approval" if kind == "approval" else "tool-call-suspended"
    return Chunk({**question, "type": type_, "payload": payload}, question.index, question.step)


def _signal_message(said: Chunk) -> Message:
    signal = parse_signal(said["data"], ids=lambda: "signal", now=0)
    return as_prompt(signal_message(signal, None, None))


def counts(usage: dict[str, Json]) -> dict[str, Json]:
    """The tokens alone."""
    return {name: usage[name] for name in ("inputTokens", "outputTokens", "totalTokens") if name in usage}


def _id(step: StepFold) -> str:
    return step.message_id or f"step-{step.number}"

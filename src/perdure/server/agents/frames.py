"""Chunks of a run as clients of the agents protocol read them: what is told of each, and in which words.

The ends of steps and of runs are filled up with what the protocol tells there. Chunks that only this server's runs have
are told otherwise (`suspended`), or not at all. What a request to a provider was is never told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from perdure.agents.chunks import Chunk
from perdure.agents.fold import StepFold
from perdure.agents.structured import StructuredOutputError
from perdure.model.json import Json
from perdure.server.agents.results import durable_content, durable_step, response, short_step
from perdure.server.agents.transcript import EVENT, SIGNALS, Transcript, asking, counts

_REASONS: Final = {"max-steps": "tool-calls", "abort": "tripwire"}
_RESULTS: Final = frozenset({"tool-result", "tool-error", "tool-output-denied"})


_NETWORK: Final = (
    *("tool-execution-approval", "tool-execution-suspended"),
    *("agent-execution-approval", "agent-execution-suspended", "workflow-execution-suspended"),
)
"""Kinds that ask about what a network does; their names say what they ask about."""


class Frames:
    """Translates the chunks of one segment. `durable`: the run survives, and tells so.

    A stream that is `resumed` begins with what a network had begun. With `calls_again` the call is told once more
    before the result of a question: a client that carries tools out itself passes over results of calls that it has not
    heard of in this stream, and over all that follows. `followed`: the stream is of a thread, not of one run.
    """

    def __init__(
        self,
        told: Transcript,
        *,
        durable: bool,
        calls_again: bool = False,
        resumed: bool = False,
        followed: bool = False,
    ) -> None:
        self.told = told
        self._followed = followed
        self._durable = durable
        self._calls_again = calls_again
        self._again = [told.execution] if resumed and told.execution is not None else []
        self._start: list[dict[str, Json]] = []
        self._tripped = False
        self._heard: set[str] = set()
        self._asked: set[str] = set()
        self._nested: dict[str, Frames] = {}

    def of(self, said: Chunk) -> list[dict[str, Json]]:
        """What is told of a chunk."""
        self.told.take(said)
        again, self._again = self._again, []
        if self._tripped:
            return []
        name = _TOLD.get(said.type)
        tell: Callable[[Chunk], list[dict[str, Json]]] = getattr(self, name) if name else self._as_it_is
        told = tell(said)
        if said.type not in ("start", "tripwire"):
            told, self._start = [*self._start, *told], []
        return [*again, *told]

    def _as_it_is(self, said: Chunk) -> list[dict[str, Json]]:
        return self._of_sub_agent(said) if said.type.startswith(EVENT) else [said]

    def _of_sub_agent(self, said: Chunk) -> list[dict[str, Json]]:
        """What a sub-agent of a network says, told as if it were a run of its own."""
        run_id: str = said.payload.get("runId", "")
        *before, inner = self.told.nested[run_id]
        if run_id not in self._nested:
            self._nested[run_id] = Frames(Transcript(run_id, before=before), durable=False)
        told = self._nested[run_id].of(inner)
        return [{**said, "type": f"{EVENT}{each['type']}", "payload": each} for each in told]

    def _used(self, said: Chunk) -> list[dict[str, Json]]:
        """With the tokens as the provider counts them; where it tells nothing of its own, it is what there is."""
        usage: dict[str, Json] = said.payload.get("usage") or {}
        return [{**said, "payload": {**said.payload, "usage": {**usage, "raw": usage.get("raw", counts(usage))}}}]

    def _begun(self, said: Chunk) -> list[dict[str, Json]]:
        """Told with what comes next: of a run that is stopped before it has begun, that alone is told."""
        self._start = [said]
        return []

    def _stopped(self, said: Chunk) -> list[dict[str, Json]]:
        """The last that is told."""
        self._tripped = True
        return [said]

    def _step_start(self, said: Chunk) -> list[dict[str, Json]]:
        payload = {**said.payload, "request": {}}
        if not self._durable:
            payload.pop("stepId", None)
            payload["messageId"] = self.told.message_id()
        return [{**said, "payload": payload}]

    def _metadata(self, said: Chunk) -> list[dict[str, Json]]:
        return [{**said, "payload": {"type": "response-metadata", **said.payload}}] if self._durable else []

    def _call(self, said: Chunk) -> list[dict[str, Json]]:
        self._heard.add(said.payload["toolCallId"])
        return [said]

    def _result(self, said: Chunk) -> list[dict[str, Json]]:
        payload = said.payload
        told: list[dict[str, Json]] = [said]
        if isinstance(payload.get("result"), dict) and "subAgentThreadId" in payload["result"]:
            # Models are told what a sub-agent has said, and nothing else of its result.
            output = {"type": "text", "value": payload["result"].get("text")}
            noted = {"providerMetadata": {"mastra": {"modelOutput": output}}}
            told = [{**said, "payload": {**noted, **payload}}]
        if said.type == "tool-error":
            told = [{**said, "payload": {**payload, "error": self._tool_error(payload.get("error") or {})}}]
        if self._calls_again and payload["toolCallId"] not in self._heard:
            call = {key: payload.get(key) for key in ("toolCallId", "toolName", "args")}
            told.insert(0, {**said, "type": "tool-call", "payload": call})
        return told

    def _tool_error(self, error: dict[str, Json]) -> dict[str, Json]:
        if error.get("name") == "ToolNotFoundError":
            return error
        cause = {"message": error.get("message"), "name": error.get("name")}
        details = {"errorMessage": f"{error.get('name')}: {error.get('message')}"}
        details["model"] = self.told.call(self.told.fold.step).model
        return {
            "name": "Error",
            "cause": cause,
            "id": error.get("code") or "TOOL_EXECUTION_FAILED",
            "domain": "TOOL",
            "category": "USER",
            "details": details,
        }

    def _question(self, said: Chunk) -> list[dict[str, Json]]:
        self._asked.add(said.payload["toolCallId"])
        return [asking(said)]

    def _network_question(self, said: Chunk) -> list[dict[str, Json]]:
        self._asked.add(said.payload["toolCallId"])
        told: dict[str, Json] = {**asking(said), "type": said.type}
        if said.type == "agent-execution-approval" and self.told.execution is not None:
            # What the sub-agent asks about was told as its own; here the question is about what was handed to it.
            key, begun = said.payload.get("agentId"), self.told.execution.payload.get("args") or {}
            about = {"args": {"prompt": begun.get("prompt")}, "toolName": key, "toolCallId": key, "usage": {}}
            told["payload"] = {**told["payload"], **about}
        return [told]

    def _signal(self, said: Chunk) -> list[dict[str, Json]]:
        if self._followed:
            return [said]
        return [{key: value for key, value in said.items() if key != "runId"}]

    def _nothing(self, _: Chunk) -> list[dict[str, Json]]:
        return []

    def _suspended(self, _: Chunk) -> list[dict[str, Json]]:
        """Whoever answers one of several questions is told of those that are left."""
        left = [item for item in self.told.questions() if item.payload["toolCallId"] not in self._asked]
        return [frame for question in left for frame in self._question(question)]

    def _error(self, said: Chunk) -> list[dict[str, Json]]:
        error: dict[str, Json] = dict(said.payload.get("error") or {})
        if error.get("code") == StructuredOutputError.code:
            error |= {"domain": "AGENT", "category": "SYSTEM", "details": {"value": self.told.fold.step.text}}
        return [{**said, "payload": {"type": "error", **said.payload, "error": error}}]

    def _step_finish(self, said: Chunk) -> list[dict[str, Json]]:
        step = self.told.fold.step
        usage = self.told.call(step).usage
        payload = self._ended(said, step, usage)
        if self._durable:
            payload |= {"type": "finish", "_durableStepContent": durable_content(step)}
        return [{**said, "payload": payload}]

    def _finish(self, said: Chunk) -> list[dict[str, Json]]:
        step = self.told.fold.step
        usage = self.told.usage() or (said.payload.get("output") or {}).get("usage") or {}
        payload = self._ended(said, step, usage)
        if self._durable:
            payload["stepResult"] = {"warnings": [], **payload["stepResult"], "headers": {}}
            payload["stepResult"]["totalUsage"] = self.told.call(step).usage
        elif self.told.remembers:
            payload["response"] = response(self.told, [step])
            del payload["response"]["dbMessages"]
            payload["response"]["headers"] = {}
        return [{**said, "payload": payload}]

    def _steps(self, last: StepFold) -> list[dict[str, Json]]:
        made = [short_step(self.told, each, last=each is last) for each in self.told.steps]
        if not self._durable:
            return made
        return [{**told, **durable_step(each)} for told, each in zip(made, self.told.steps, strict=True)]

    def _ended(self, said: Chunk, step: StepFold, usage: dict[str, Json]) -> dict[str, Json]:
        given = said.payload.get("stepResult") or {}
        reason: Json = "other" if self.told.signalled and given.get("isContinued") else given.get("reason")
        result: dict[str, Json] = {
            "reason": _REASONS.get(reason, reason),
            "isContinued": bool(given.get("isContinued")),
        }
        if self.told.answered(step):
            result["messageId"] = given.get("messageId")
        if given.get("warnings"):
            result["warnings"] = given["warnings"]
        calls = [call.payload for call in step.tool_calls]
        # A run whose end says so goes on; of a step it only says that there are tasks.
        pending = said.payload.get("backgroundTaskPending") or (said.type == "step-finish" and self.told.has_tasks)
        kept = {"backgroundTaskPending": True} if pending else {}
        return {
            "messageId": step.message_id if self._durable else self.told.message_id(),
            "stepResult": result,
            "metadata": {**self.told.call(step).response(), "headers": {}},
            "output": {
                "text": step.text,
                "toolCalls": [{key: call.get(key) for key in ("toolCallId", "toolName", "args")} for call in calls],
                "usage": usage,
                "steps": self._steps(step),
                **({} if self.told.fold.object is None else {"object": self.told.fold.object}),
            },
            "messages": self.told.model_messages(),
            "processorRetryCount": 0,
            **kept,
        }


_TOLD: Final = {
    "start": "_begun",
    "tripwire": "_stopped",
    "step-start": "_step_start",
    "response-metadata": "_metadata",
    "tool-call": "_call",
    **dict.fromkeys(_RESULTS, "_result"),
    "tool-call-approval": "_question",
    "tool-call-suspended": "_question",
    **dict.fromkeys(_NETWORK, "_network_question"),
    **dict.fromkeys(("routing-agent-end", "agent-execution-end"), "_used"),
    **dict.fromkeys(SIGNALS, "_signal"),
    "suspended": "_suspended",
    "warning": "_nothing",
    "error": "_error",
    "step-finish": "_step_finish",
    "finish": "_finish",
}
"""The method of `Frames` for each kind of chunk that is not told as it is."""

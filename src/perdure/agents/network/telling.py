"""How a network is told: its own chunks (`Teller`), and those of what it chose (`NetworkJournal`).

What is chosen is carried out as a tool call is, and says so in chunks of tool calls. `NetworkJournal` stands between
and tells them as a network's: a sub-agent's chunk `X` is `agent-execution-event-X`, an approval that is asked for
`tool-execution-approval`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from perdure.agents.chunks import NETWORK, Chunk
from perdure.agents.declared import DeclaredAgent
from perdure.agents.journal import Decision, Delegation, Journal, Question
from perdure.agents.messages import ToolInvocation, Usage
from perdure.agents.network.routing import Choice, Verdict
from perdure.agents.subagents import delegated
from perdure.agents.within import WithinJournal
from perdure.model.json import Json

FINISH: Final = "network-execution-event-finish"

_NO_TOKENS: Final = {
    "inputTokens": 0,
    "outputTokens": 0,
    "totalTokens": 0,
    "cachedInputTokens": 0,
    "cacheCreationInputTokens": 0,
    "reasoningTokens": 0,
}
_UNSAID: Final = frozenset({"tool-result", "tool-error", "tool-output-denied"})
"""What came of the call is told by `*-execution-end`, once it is recorded."""


def told(kind: str, run_id: str, /, **payload: Json) -> Chunk:
    """A chunk of a network; keys that are None are left out."""
    said = {key: value for key, value in payload.items() if value is not None}
    return Chunk({"type": kind, "payload": said, "runId": run_id, "from": NETWORK})


class Teller:
    """Says what a network does, in the names and fields that clients of networks read."""

    def __init__(self, journal: Journal, task: str, agent_id: str, thread_id: str, resource_id: str) -> None:
        self._journal = journal
        self._task = task
        self._agent_id = agent_id
        self._thread_id = thread_id
        self._resource_id = resource_id

    def say(self, kind: str, **payload: Json) -> None:
        """Says a chunk."""
        self._journal.push(told(kind, self._journal.run_id, **payload))

    def routing_start(self, number: int, before: Choice, result: Json, feedback: str) -> None:
        """The router is asked; `before` is the last choice, and `result` what it came to."""
        given: dict[str, Json] = {
            "task": self._task,
            "primitiveId": before.primitive_id if number else "",
            "primitiveType": before.primitive_type,
            "iteration": number,
            "threadResourceId": self._resource_id,
            "threadId": self._thread_id,
            "isOneOff": False,
            "verboseIntrospection": True,
        }
        if number:
            given |= {"result": result, "validationPassed": False, "validationFeedback": feedback}
        self.say(
            "routing-agent-start",
            networkId=self._agent_id,
            agentId="routing-agent",
            runId=self._routing(number),
            inputData=given,
        )

    def routing_end(self, number: int, choice: Choice, context: list[Json], usage: Json) -> dict[str, Json]:
        """The router has chosen; what `execution_start` repeats of it."""
        owner = {"threadId": self._thread_id, "resourceId": self._resource_id, "type": "text"}
        shown: dict[str, Json] = {
            "task": self._task,
            "result": "",
            "primitiveId": choice.primitive_id,
            "primitiveType": choice.primitive_type,
            "prompt": choice.prompt,
            "isComplete": choice.primitive_type == "none",
            "selectionReason": choice.selection_reason,
            "iteration": number,
            "runId": self._routing(number),
            "conversationContext": [{**each, **owner} for each in context],
        }
        self.say("routing-agent-end", **shown, usage=usage)
        return shown

    def nothing_chosen(self, number: int) -> None:
        """Nothing in the network brings the task forward."""
        about = {"task": self._task, "result": "", "isComplete": True, "iteration": number}
        self.say("network-execution-event-step-finish", **about, runId=self._routing(number))

    def execution_start(self, choice: Choice, call: ToolInvocation, shown: dict[str, Json]) -> None:
        """What was chosen begins."""
        kind, execution = choice.primitive_type, self.execution(call.tool_call_id)
        if kind == "tool":
            given = {"args": call.args, "toolName": call.tool_name, "toolCallId": call.tool_call_id}
            self.say("tool-execution-start", args={**shown, **given}, runId=execution)
        else:
            self.say(f"{kind}-execution-start", **{f"{kind}Id": choice.primitive_id}, args=shown, runId=execution)

    def execution_end(self, number: int, choice: Choice, call_id: str, result: Json, usage: Json) -> None:
        """What was chosen has come to its result."""
        kind, execution = choice.primitive_type, self.execution(call_id)
        about: dict[str, Json] = {"task": self._task, "result": result, "isComplete": False, "iteration": number}
        if kind == "agent":
            self.say("agent-execution-end", **about, agentId=choice.primitive_id, runId=execution, usage=usage)
        elif kind != "none":
            about |= {"primitiveId": choice.primitive_id, "primitiveType": kind}
            named = {"toolCallId": call_id, "toolName": choice.primitive_id}
            named = named if kind == "tool" else {"name": choice.primitive_id, "runId": execution}
            self.say(f"{kind}-execution-end", **about, **named)

    def validation_start(self, number: int) -> None:
        """The judge is asked."""
        self.say("network-validation-start", runId=self._journal.run_id, iteration=number, checksCount=1)

    def validation_end(self, number: int, verdict: Verdict, duration: int, *, last: bool) -> None:
        """The judge has answered, after `duration` ms."""
        passed, reason = verdict.is_complete, verdict.completion_reason
        check = {
            "score": 1 if passed else 0,
            "passed": passed,
            "reason": reason,
            "finalResult": verdict.final_result,
            "scorerId": "default-completion",
            "scorerName": "Default LLM Completion",
            "duration": duration,
        }
        self.say(
            "network-validation-end",
            runId=self._journal.run_id,
            iteration=number,
            passed=passed,
            results=[check],
            duration=duration,
            timedOut=False,
            reason=reason,
            maxIterationReached=last and not passed,
            suppressFeedback=False,
        )

    def finish(self, number: int, choice: Choice, verdict: Verdict, result: Json, usage: Usage, found: Json) -> None:
        """The last chunk of the run."""
        self.say(
            FINISH,
            task=self._task,
            isComplete=verdict.is_complete,
            completionReason=verdict.completion_reason,
            result=result,
            primitiveId=choice.primitive_id,
            primitiveType=choice.primitive_type,
            iteration=number,
            isOneOff=False,
            threadId=self._thread_id,
            threadResourceId=self._resource_id,
            validationPassed=verdict.is_complete,
            usage={**_NO_TOKENS, **usage.as_json()},
            object=found,
        )

    def execution(self, call_id: str) -> str:
        """The run id under which a choice is told."""
        return f"{self._journal.run_id}.{call_id}"

    def _routing(self, number: int) -> str:
        return f"{self._journal.run_id}.route{number}"


class NetworkJournal(WithinJournal):
    """The journal of a network's run while it carries out one choice."""

    def __init__(self, outer: Journal, agent: DeclaredAgent, choice: Choice, execution_id: str) -> None:
        super().__init__(outer)
        self._agent = agent
        self._choice = choice
        self._execution_id = execution_id

    def push(self, said: Chunk) -> None:
        if said.type not in _UNSAID:
            self.outer.push(self._translated(said))

    async def ask(self, question: Question, announce: Callable[[], Awaitable[Chunk]]) -> Decision | None:
        async def translated() -> Chunk:
            return self._translated(await announce())

        return await self.outer.ask(question, translated)

    async def delegate(self, delegation: Delegation) -> Json:
        # Not by the journal inside: what the sub-agent says has to come through here.
        return await delegated(self, delegation, self._agent)

    def _translated(self, said: Chunk) -> Chunk:
        kind, payload = self._choice.primitive_type, said.payload
        if said.type in ("tool-call-approval", "tool-call-suspended"):
            asked = "approval" if said.type == "tool-call-approval" else "suspended"
            return told(
                f"{kind}-execution-{asked}",
                self.run_id,
                **{**payload, "runId": self._execution_id, "selectionReason": self._choice.selection_reason},
                **({"agentId": self._choice.primitive_id} if kind == "agent" else {}),
            )
        if said.type == "tool-output":
            inner: dict[str, Json] = payload.get("output") or {}
            return told(f"{kind}-execution-event-{inner.get('type', 'output')}", self.run_id, **inner)
        return said

"""The loop of a network: choose, carry out, look whether the task is done, and so on.

Steps: `route:<n>` asks who goes on, the choice is carried out as the tool call `n<n>` (`tool:n0`, `sub:n0`, `ask:n0`),
`check:<n>` asks whether the task is done, and `object` makes an object of the result where one is wanted. Without
`max_steps` one choice is made.

Invariants: as in `loop.py`: all is said inside steps, and the state is a fold over what they recorded; the chunk
`network-execution-event-finish` is the last one of every run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias

import msgspec

from perdure.agents.calls import ToolTurn
from perdure.agents.chunks import NETWORK, Chunk, chunk
from perdure.agents.ending import judge
from perdure.agents.gates import needs_approval
from perdure.agents.inputs import message_to_json
from perdure.agents.journal import StepScope
from perdure.agents.messages import Message, TextPart, ToolInvocation, ToolPart, Usage
from perdure.agents.models import Answer, Call, Prompt
from perdure.agents.network.routing import (
    Choice,
    Verdict,
    done_message,
    object_prompt,
    read_choice,
    read_verdict,
    route_prompt,
    task_of,
    tool_call,
    verdict_prompt,
)
from perdure.agents.network.telling import NetworkJournal, Teller
from perdure.agents.run import Run
from perdure.agents.said import told_error
from perdure.agents.state import RunResult, Turn
from perdure.agents.structured import ObjectStream, read_object
from perdure.model.errors import NonRetriableError
from perdure.model.json import Json, encode

_Say: TypeAlias = Callable[[Chunk], None]
_NOTHING: Final = Choice("", "none", "", "")


@dataclass
class _Done:
    """What one iteration came to."""

    number: int
    choice: Choice
    result: Json = ""
    verdict: Verdict = field(default_factory=lambda: Verdict(False))

    @property
    def call_id(self) -> str:
        """The tool call as which the choice is carried out."""
        return f"n{self.number}"

    @property
    def answer(self) -> Json:
        """The answer to the task: what the judge wrote, or the result where that is the answer."""
        return self.verdict.final_result or self.result


async def run_network(run: Run) -> RunResult:
    """Carries a network's run out."""
    return await _Network(run).carry_out()


class _Network:
    def __init__(self, run: Run) -> None:
        request = run.request
        self._run = run
        self._journal = run.journal
        self._task = task_of(run.state.input)
        self._thread, self._resource = request.thread_id or run.run_id, request.resource_id or run.agent.name
        self._tell = Teller(run.journal, self._task, run.agent.id, self._thread, self._resource)
        self._messages: list[Message] = []
        self._usage = Usage()
        self._limit = run.options.max_steps or 1

    async def carry_out(self) -> RunResult:
        done = _Done(0, _NOTHING)
        scores: list[dict[str, Json]] = []
        for number in range(self._limit):
            routed = await self._step(f"route:{number}", partial(self._route, number, done))
            if "error" in routed:
                return self._failed(routed)
            self._count(routed)
            done = _Done(number, msgspec.convert(routed["choice"], Choice))
            if "call" in routed:
                done.result = await self._carry_out(done, routed)
            checked = await self._step(f"check:{number}", partial(self._check, done))
            if "error" in checked:
                return self._failed(checked)
            done.verdict = msgspec.convert(checked["verdict"], Verdict)
            scores = checked.get("scores", [])
            self._messages.append(self._as_message(done))
            if done.verdict.is_complete:
                break
        found: Json = None
        if self._run.options.structured_output is not None:
            recorded = await self._step("object", partial(self._object, done))
            if "error" in recorded:
                return self._failed(recorded)
            found, scores = recorded["object"], recorded.get("scores", [])
        reason = "stop" if done.verdict.is_complete else "max-steps"
        result = self._result(reason, _text(done.answer), found=found)
        result.scores = scores
        return result

    async def _route(self, number: int, before: _Done, scope: StepScope) -> Json:
        """Asks who goes on."""
        run, state = self._run, self._run.state
        self._tell.routing_start(number, before.choice, before.result, before.verdict.completion_reason)
        recalled = await run.recall()
        history = [*([] if recalled is None else recalled.messages), *state.input, *self._messages]
        prompt = route_prompt(run.agent, await self._instructions(), history, self._task)
        answer = await self._ask(prompt, scope)
        choice = read_choice(run.agent, answer.text)
        context = [message_to_json(message) for message in state.input]
        usage = answer.usage.as_json()
        shown = self._tell.routing_end(number, choice, context, usage)
        recorded: dict[str, Json] = {"choice": msgspec.to_builtins(choice), "usage": usage}
        if choice.primitive_type == "none":
            self._tell.nothing_chosen(number)
            return recorded
        name, args = tool_call(choice)
        call = ToolInvocation("call", f"n{number}", name, args)
        self._tell.execution_start(choice, call, shown)
        gated = await needs_approval(run, call, run.box.known(name)) if choice.primitive_type == "tool" else False
        return {**recorded, "call": {"name": name, "args": args}, "gated": gated}

    async def _carry_out(self, done: _Done, routed: dict[str, Json]) -> Json:
        """Carries the choice out as a tool call; what came of it, as the router and the judge read it."""
        call = ToolInvocation("call", done.call_id, routed["call"]["name"], routed["call"]["args"])
        turn = Turn(done.number, Answer([ToolPart(call)], "tool-calls", Usage(), "", ""))
        turn.gated = [done.call_id] if routed["gated"] else []
        self._run.state.add(turn)
        inner = copy.copy(self._run)
        inner.journal = NetworkJournal(self._journal, self._run.agent, done.choice, self._tell.execution(done.call_id))
        await ToolTurn(inner, turn, keeps=False).carry_out()
        outcome = self._run.state.outcomes[done.call_id]
        self._count(outcome)
        return _result_of(done.choice, outcome)

    async def _check(self, done: _Done, scope: StepScope) -> Json:
        """Asks whether the task is done."""
        began, number = self._journal.now(), done.number
        usage = self._run.state.outcomes.get(done.call_id, {}).get("usage")
        self._tell.execution_end(number, done.choice, done.call_id, done.result, usage)
        self._tell.validation_start(number)
        history = [*self._run.state.input, *self._messages, self._as_message(done)]
        prompt = verdict_prompt(await self._instructions(), history, self._task, done.choice, done.result)
        final = _FinalText(self._tell, f"{self._run.run_id}.check{number}")
        verdict = read_verdict((await self._ask(prompt, scope, final.take)).text)
        last = number + 1 >= self._limit
        self._tell.validation_end(number, verdict, self._journal.now() - began, last=last)
        judged = _Done(number, done.choice, done.result, verdict)
        ending = last or verdict.is_complete
        await self._save(judged, ending=ending)
        recorded: dict[str, Json] = {"verdict": msgspec.to_builtins(verdict)}
        if ending and self._run.options.structured_output is None:
            recorded |= await self._end(judged)
        return recorded

    async def _object(self, done: _Done, scope: StepScope) -> Json:
        """Makes an object of the result."""
        wanted = self._run.options.structured_output
        assert wanted is not None
        growing = ObjectStream()

        def take(said: Chunk) -> None:
            if said.type == "text-delta" and (found := growing.feed(said.payload["text"])) is not None:
                self._tell.say("network-object", object=found)

        answer = await self._ask(object_prompt(wanted.schema, self._task, _text(done.answer)), scope, take)
        found = read_object(answer.text, wanted)
        self._tell.say("network-object-result", object=found)
        return {"object": found, **await self._end(done, found)}

    async def _end(self, done: _Done, found: Json = None) -> dict[str, Json]:
        """The last of a run: what its scorers say, and its end."""
        earlier = [message for message in self._messages if message.id != self._as_message(done).id]
        recorded = await judge(self._run, [*earlier, self._as_message(done)], _text(done.answer), found)
        self._say_finish(done, found)
        return recorded

    def _say_finish(self, done: _Done, found: Json = None) -> None:
        self._tell.finish(done.number, done.choice, done.verdict, done.answer, self._usage, found)

    async def _step(self, id: str, call: partial[Json]) -> dict[str, Json]:
        """A step that asks the model. What fails for good is a value, and ends the run."""
        retries = self._run.models().retries

        async def attempt(scope: StepScope) -> Json:
            try:
                return await call(scope)
            except Exception as error:
                if scope.attempt < retries and not isinstance(error, NonRetriableError):
                    raise
                failure = told_error(error)
                self._journal.push(chunk("error", self._run.run_id, NETWORK, error=failure))
                self._say_finish(_Done(0, _NOTHING, "", Verdict(False, failure["message"])))
                return {"error": failure}

        recorded: dict[str, Json] = await self._journal.step(id, attempt, retries=retries)
        return recorded

    async def _ask(self, prompt: Prompt, scope: StepScope, say: _Say = lambda _: None) -> Answer:
        run = self._run
        prompt.settings = run.options.model_settings
        prompt.headers, prompt.provider_options = run.options.headers, run.options.provider_options
        call = Call(run.run_id, say, self._journal.drained, self._journal.now, attempt=scope.attempt)
        return await run.models().ask(prompt, call)

    async def _instructions(self) -> list[str]:
        options = self._run.options
        if options.instructions:
            return [options.instructions]
        return await self._run.agent.get_instructions(options.request_context)

    async def _save(self, done: _Done, *, ending: bool) -> None:
        memory = self._run.services.memory
        if memory is None:
            return
        messages = [*self._run.state.input, *self._messages, self._as_message(done)]
        if ending and (text := _text(done.answer)):
            last = Message(f"{self._run.run_id}-final", "assistant", [TextPart(text)], self._at(self._limit))
            messages.append(self._in_thread(last))
        await memory.save(messages)

    def _as_message(self, done: _Done) -> Message:
        id = f"{self._run.run_id}-n{done.number}"
        return self._in_thread(done_message(id, done.choice, done.result, self._at(done.number)))

    def _in_thread(self, message: Message) -> Message:
        message.thread_id, message.resource_id = self._run.request.thread_id, self._run.request.resource_id
        return message

    def _at(self, number: int) -> int:
        # Of the run, not of the clock: a message that is saved again must be the same.
        return self._run.request.started_at + number + 1

    def _count(self, recorded: dict[str, Json]) -> None:
        if recorded.get("usage"):
            self._usage += msgspec.convert(recorded["usage"], Usage)

    def _failed(self, recorded: dict[str, Json]) -> RunResult:
        return self._result("error", "", error=recorded["error"])

    def _result(self, reason: str, text: str, *, found: Json = None, error: dict[str, Json] | None = None) -> RunResult:
        steps = len(self._messages)
        return RunResult(self._run.run_id, reason, text, self._usage, steps, object=found, error=error)


class _FinalText:
    """Tells the final result while the judge writes it: only where it has found the task complete."""

    def __init__(self, tell: Teller, run_id: str) -> None:
        self._tell = tell
        self._run_id = run_id
        self._stream = ObjectStream()
        self._told = 0

    def take(self, said: Chunk) -> None:
        """Takes a chunk of the judge's answer."""
        found = self._stream.feed(said.payload["text"]) if said.type == "text-delta" else None
        if not isinstance(found, dict) or found.get("isComplete") is not True:
            return
        text = found.get("finalResult")
        if not isinstance(text, str) or len(text) <= self._told:
            return
        if not self._told:
            self._tell.say("routing-agent-text-start", runId=self._run_id)
        self._tell.say("routing-agent-text-delta", text=text[self._told :])
        self._told = len(text)


def _result_of(choice: Choice, outcome: dict[str, Json]) -> Json:
    if "denied" in outcome:
        return outcome["denied"]
    if "error" in outcome:
        return f"It failed: {outcome['error'].get('message', '')}"
    result = outcome.get("result")
    if isinstance(result, dict) and choice.primitive_type != "tool":
        return result.get("text" if choice.primitive_type == "agent" else "result", "")
    return result


def _text(result: Json) -> str:
    return result if isinstance(result, str) else encode(result).decode()

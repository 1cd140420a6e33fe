"""A pydantic-ai agent as the body of a durable agent: `create_durable_agent(agent=<pydantic_ai.Agent>, app=app)`.

Its runs, streams, approvals and errors are those of any durable agent; what happens between two calls of the model is
pydantic-ai's. Where it ends a run because calls wait for approval, or for a result from elsewhere, the questions are
asked, and the next run of the agent goes on in the same perdure run, in the same stream.

Invariants: chunks are said inside of steps alone; all that a replay needs is recorded by steps, or follows from that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final, Literal, TypeAlias

import msgspec
from pydantic_ai import DeferredToolRequests, DeferredToolResults, ToolApproved, ToolDenied
from pydantic_ai.agent.abstract import AbstractAgent
from pydantic_ai.exceptions import AgentRunError, UserError
from pydantic_ai.messages import ModelMessage, ToolCallPart
from pydantic_ai.models import Model
from pydantic_ai.run import AgentRunResult
from pydantic_ai.usage import UsageLimits
from pydantic_core import to_jsonable_python

from perdure.agents import said
from perdure.agents.aborting import partial_messages
from perdure.agents.chunks import Chunk, chunk
from perdure.agents.declared import DEFAULT_VERSION
from perdure.agents.durable.body import Request
from perdure.agents.inputs import message_to_json, read_messages
from perdure.agents.journal import Decision, Delegation, Journal, Question, StepScope
from perdure.agents.memory import Memory
from perdure.agents.messages import Usage
from perdure.agents.models.call import Answer, Prompt
from perdure.agents.models.settings import layer_settings
from perdure.agents.options import Closures, OptionError, RunOptions
from perdure.agents.prompt import DENIED, model_messages
from perdure.agents.pydantic_ai.driving import Driving, driving
from perdure.agents.pydantic_ai.durability import PerdureDurability
from perdure.agents.pydantic_ai.remembering import Thread, said_in
from perdure.agents.responding import args_hash
from perdure.agents.splitting import split_options
from perdure.agents.starting import check_names, users_resource
from perdure.agents.state import RunInput, RunResult
from perdure.agents.storage import AgentStorage
from perdure.model.errors import ConfigError, StepError
from perdure.model.json import Json, encode

DEFAULT_MAX_STEPS: Final = 50
"""How often the model is called in a run that says nothing else: what pydantic-ai allows."""
EXPIRED: Final = "Nobody answered in time"

Kind: TypeAlias = Literal["approval", "suspension"]

_TAKEN: Final = frozenset(
    {"instructions", "memory", "request_context", "max_steps", "model_settings", "provider_options", "headers"}
)
"""The options of a run that mean something here."""


class PydanticBody:
    """An agent of pydantic-ai inside of a durable agent.

    `deps` makes the agent's dependencies of the request context; it is called again in a replay. `version` tells one
    version of the agent from the next (see `perdure.agents.Agent`).
    `editable` are the tools whose arguments may be changed by whoever approves a call; `memory` is what is remembered
    of threads (the last ten messages). Raises `ConfigError`.
    """

    def __init__(
        self,
        agent: AbstractAgent[Json, Json],
        id: str | None = None,
        name: str | None = None,
        *,
        deps: Callable[[dict[str, Json]], object] | None = None,
        version: str | None = None,
        editable: Collection[str] = (),
        memory: Memory | None = None,
    ) -> None:
        given = id or agent.name
        if not given:
            raise ConfigError("a durable agent", ["agent: it has no name; give it one, or pass id="])
        self.id = given
        self.name = name or agent.name or given
        self.wrapped = agent
        self.version = version or DEFAULT_VERSION
        self._deps = deps
        self._memory = memory or Memory()
        self.remembers = True
        self._editable = frozenset(editable)
        durable = PerdureDurability.from_agent(agent)
        self._added = () if durable is not None else (PerdureDurability[Json](name=given),)

    async def request(
        self, messages: Json, options: dict[str, Json], *, new_id: Callable[[], str], now: int, strict: bool
    ) -> Request:
        """See `Body`. Raises `OptionError` for options that mean nothing to an agent of pydantic-ai."""
        split = split_options(options, policies={}, toolsets={}, durable=True, strict=strict)  # type: ignore[arg-type]
        _check(split.data, split.closures)
        self._memory.scope(split.data.memory)
        run_id = split.run_id or new_id()
        read = read_messages(messages, new_id=lambda place: f"{run_id}-u{place}", now=now)
        check_names(run_id, read, split.data.memory)
        memory = split.data.memory or {}
        thread = memory.get("thread")
        thread_id = thread.get("id") if isinstance(thread, dict) else thread
        sent = [message_to_json(message) for message in read]
        resource = memory.get("resource") or users_resource(split.data)
        request = RunInput(run_id, self.id, sent, split.data, now, thread_id, resource)
        same = [{key: value for key, value in message.items() if key != "createdAt"} for message in sent]
        asked = {"messages": same, "options": split.data.to_json(), "agent": self.id}
        return Request(
            request.to_json(), asked, run_id, request.thread_id, request.resource_id, split.callbacks, split.closures
        )

    async def run(
        self, journal: Journal, data: dict[str, Json], storage: AgentStorage, closures: Closures
    ) -> dict[str, Json]:
        """See `Body`. A failure is a result: it is told in the stream, and `finishReason` is `error`."""
        request = msgspec.convert(data, RunInput)
        memory = self._memory.use(storage)
        thread = Thread(memory, memory.scope(request.options.memory))
        return (await _Run(self, journal, request, thread).carry_out()).to_json()

    async def delegate(self, journal: Journal, delegation: Delegation) -> Json:
        """Agents of pydantic-ai have their sub-agents in their tools. Raises `ConfigError`."""
        raise ConfigError(f"agent {self.id!r}", [f"{delegation.key}: it has no sub-agents of this kind"])

    async def keep_partial(self, data: dict[str, Json], said: Sequence[Chunk], storage: AgentStorage, now: int) -> None:
        """See `Body`."""
        request = msgspec.convert(data, RunInput)
        memory = self._memory.use(storage)
        thread = Thread(memory, memory.scope(request.options.memory))
        await thread.save([*request.read(), *partial_messages(request, said, now)])

    def edits_args(self, tool_name: str) -> bool:
        """See `Body`."""
        return tool_name in self._editable

    async def answer(
        self,
        request: RunInput,
        history: Sequence[ModelMessage],
        results: DeferredToolResults | None,
        round: int,
        steps: int,
    ) -> tuple[Json, list[ModelMessage]]:
        """One run of the agent, the `round`-th of them: what it gave, and the conversation after it.

        `steps` is how often it may still call the model.
        """
        options = request.options
        model = self.wrapped.model
        system = model.system if isinstance(model, Model) else str(model or "").partition(":")[0]
        prompt = Prompt([], [], settings=options.model_settings, provider_options=options.provider_options)
        settings, _ = layer_settings(prompt, system, options.headers)
        given: Json = self.wrapped.output_type
        outputs: Json = [*(given if isinstance(given, list | tuple) else [given]), DeferredToolRequests]
        done: AgentRunResult[Json] = await self.wrapped.run(
            None,
            message_history=list(history),
            deferred_tool_results=results,
            # Messages keep the id of the run that they came from, so no two runs may share one.
            run_id=f"{request.run_id}.{round}",
            output_type=outputs,
            instructions=options.instructions,
            deps=None if self._deps is None else self._deps(options.request_context),
            model_settings=settings,
            usage_limits=UsageLimits(request_limit=steps),
            capabilities=self._added,
        )
        return done.output, done.all_messages()


class _Run:
    """One execution of a run."""

    def __init__(self, body: PydanticBody, journal: Journal, request: RunInput, thread: Thread) -> None:
        self._body = body
        self._thread = thread
        self._input = request.read()
        self._history: list[ModelMessage] = []
        self._journal = journal
        self._request = request
        self._begins = [0]
        """The turns with which messages begin: all turns go into one, until somebody has answered a question."""
        self._driving = Driving(journal)
        self._driving.said_before = self._said_before

    async def carry_out(self) -> RunResult:
        token = driving.set(self._driving)
        try:
            system, before = await self._thread.recall(self._journal, self._input)
            self._history = model_messages([*self._request.options.system, *system], [*before, *self._input])
            round = 0
            output = await self._answer(None, round)
            while isinstance(output, DeferredToolRequests):
                round += 1
                results = await self._settle(output)
                self._begins.append(len(self._answers))
                output = await self._answer(results, round)
            return await self._finish(output)
        except (StepError, AgentRunError, UserError) as error:
            return await self._fail(error)
        finally:
            driving.reset(token)

    async def _answer(self, results: DeferredToolResults | None, round: int) -> Json:
        steps = self._request.options.max_steps or DEFAULT_MAX_STEPS
        left = max(steps - len(self._answers), 0)
        output, self._history = await self._body.answer(self._request, self._history, results, round, left)
        return output

    @property
    def _run_id(self) -> str:
        return self._request.run_id

    @property
    def _answers(self) -> list[Answer]:
        return self._driving.answers

    def _message_id(self, turn: int) -> str:
        return f"{self._run_id}-m{max(first for first in self._begins if first <= turn)}"

    def _said_before(self, turn: int) -> list[Chunk]:
        head = [said.start(self._run_id, self._body.id, self._message_id(0))] if turn == 0 else self._turn_over(True)
        return [*head, said.step_start(self._run_id, turn, self._message_id(turn), self._journal.now())]

    def _turn_over(self, continued: bool, reason: str | None = None) -> list[Chunk]:
        answers = self._answers
        if not answers:
            return []
        last = answers[-1]
        message = self._message_id(len(answers) - 1)
        reason = reason or last.finish_reason
        return [said.step_finish(self._run_id, message, last, reason=reason, continued=continued)]

    async def _settle(self, requests: DeferredToolRequests) -> DeferredToolResults:
        """Asks all that is open, at once and in any order; the agent goes on when everything is answered."""
        results = DeferredToolResults()
        await asyncio.gather(
            *(self._approve(call, requests, results) for call in requests.approvals),
            *(self._supply(call, requests, results) for call in requests.calls),
        )
        return results

    async def _approve(self, call: ToolCallPart, requests: DeferredToolRequests, results: DeferredToolResults) -> None:
        decision = await self._ask(call, "approval", requests)
        if decision is not None and decision.approved:
            override = decision.args if isinstance(decision.args, dict) else None
            results.approvals[call.tool_call_id] = ToolApproved(override_args=override)
        else:
            results.approvals[call.tool_call_id] = ToolDenied(await self._deny(call, decision))

    async def _supply(self, call: ToolCallPart, requests: DeferredToolRequests, results: DeferredToolResults) -> None:
        decision = await self._ask(call, "suspension", requests)
        if decision is not None and decision.approved:
            results.calls[call.tool_call_id] = await self._result_from_elsewhere(call, decision.data)
        else:
            results.calls[call.tool_call_id] = await self._deny(call, decision)

    async def _result_from_elsewhere(self, call: ToolCallPart, result: Json) -> Json:
        told = {"toolCallId": call.tool_call_id, "toolName": call.tool_name, "args": call.args_as_dict()}

        async def tell(scope: StepScope) -> Json:
            self._journal.push(said.tool_result(self._run_id, told, result))
            return result

        return await self._journal.step(f"tool:{call.tool_call_id}", tell)

    async def _ask(self, call: ToolCallPart, kind: Kind, requests: DeferredToolRequests) -> Decision | None:
        args = call.args_as_dict()
        question = Question(
            call.tool_call_id,
            call.tool_name,
            args,
            kind,
            args_hash(call.tool_name, args),
            payload=to_jsonable_python(requests.metadata.get(call.tool_call_id)),
        )
        return await self._journal.ask(question, partial(self._announcement, question))

    async def _announcement(self, question: Question) -> Chunk:
        told = {"toolCallId": question.tool_call_id, "toolName": question.tool_name, "args": question.args}
        if question.kind == "approval":
            return chunk("tool-call-approval", self._run_id, **told, resumeSchema=said.APPROVAL_SCHEMA)
        return chunk("tool-call-suspended", self._run_id, **told, suspendPayload=question.payload)

    async def _deny(self, call: ToolCallPart, decision: Decision | None) -> str:
        reason = EXPIRED if decision is None else decision.reason or DENIED
        told = {"toolCallId": call.tool_call_id, "toolName": call.tool_name, "args": call.args_as_dict()}

        async def deny(scope: StepScope) -> Json:
            self._journal.push(said.denied(self._run_id, told, reason))
            return None

        await self._journal.step(f"tool:{call.tool_call_id}", deny)
        return reason

    async def _finish(self, output: Json) -> RunResult:
        plain = to_jsonable_python(output, serialize_unknown=True)
        text = plain if isinstance(plain, str) else encode(plain).decode()
        reason = self._answers[-1].finish_reason if self._answers else "stop"
        # Calls of an output tool are an answer, and no calls of tools.
        result = self._result("stop" if reason == "tool-calls" else reason, text)
        result.object = None if isinstance(plain, str) else plain
        await self._over(result, self._turn_over(False, result.finish_reason))
        return result

    async def _fail(self, error: Exception) -> RunResult:
        answers = self._answers
        result = self._result("error", answers[-1].text if answers else "")
        result.error = said.told_error(error)
        # What a call of the model that failed for good has said, the start of the run maybe, was taken back.
        head = self._turn_over(False, "error") or [said.start(self._run_id, self._body.id, self._message_id(0))]
        await self._over(result, [*head, said.error(self._run_id, result.error)])
        return result

    def _result(self, reason: str, text: str) -> RunResult:
        answers = self._answers
        costs = [answer.cost for answer in answers if answer.cost is not None]
        return RunResult(
            run_id=self._run_id,
            finish_reason=reason,
            text=text,
            usage=sum((answer.usage for answer in answers), Usage()),
            steps=len(answers),
            cost=sum(costs) if costs else None,
        )

    async def _over(self, result: RunResult, before: list[Chunk]) -> None:
        async def finish(scope: StepScope) -> Json:
            await self._thread.save([*self._input, *said_in(self._history, self._run_id, self._message_id)])
            for one in before:
                self._journal.push(one)
            message = self._message_id(max(result.steps - 1, 0))
            if result.object is not None:
                whole = {"type": "object-result", "runId": self._run_id, "from": "AGENT", "object": result.object}
                self._journal.push(Chunk(whole))
            self._journal.push(
                said.finish(
                    self._run_id,
                    message,
                    reason=result.finish_reason,
                    text=result.text,
                    usage=result.usage,
                    cost=result.cost,
                    steps=result.steps,
                )
            )
            return None

        await self._journal.step("finish", finish)


def _check(options: RunOptions, closures: Closures) -> None:
    unknown = [name for name in options.__struct_fields__ if name not in _TAKEN | {"system"}]
    defaults = RunOptions()
    for name in unknown:
        if getattr(options, name) != getattr(defaults, name):
            raise OptionError(f"{name}: an agent of pydantic-ai does not take it; say it where the agent is made")
    for name in closures.names():
        raise OptionError(f"{name}: an agent of pydantic-ai does not take it; say it where the agent is made")

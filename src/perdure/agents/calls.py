"""The tool calls of one turn: gated, carried out beside each other, their results recorded and said.

Each call goes its own way, and none waits for another: it may need approval (`ask:<id>`, `approve:<id>`), then it is
carried out (`tool:<id>`), and may suspend and be carried out again (`tool:<id>@1`). A call that waits holds no slot.

Invariants: an error of a tool is an outcome that the model is told; what a call came to is said inside the step that
records it; results are said as they come, and stand in messages in the order of the calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Literal

from perdure.agents import said
from perdure.agents.carrying import CallSite, Outcome, carried_out
from perdure.agents.chunks import Chunk, forwarded
from perdure.agents.declared import WORKFLOW_PREFIX
from perdure.agents.dispatch.calling import in_background
from perdure.agents.journal import Decision, Delegation, Question, StepScope
from perdure.agents.messages import ToolInvocation
from perdure.agents.options import RunOptions
from perdure.agents.questions import announcement, lanes_of
from perdure.agents.responding import args_hash, spoken
from perdure.agents.run import Run
from perdure.agents.schemas import Shape, ShapeError
from perdure.agents.state import RunInput, Turn
from perdure.agents.toolbox import AGENT_SCHEMA, WORKFLOW_SCHEMA
from perdure.agents.tools import input_refusal
from perdure.model.errors import StepError
from perdure.model.json import Json

NOT_APPROVED = "Tool call was not approved by the user"
NOT_IN_TIME = "Nobody approved the tool call in time"


class ToolTurn:
    """Carries out the calls of one turn. `keeps`: what is asked is noted in the thread, while it is open."""

    def __init__(self, run: Run, turn: Turn, *, keeps: bool = True) -> None:
        self._run = run
        self._turn = turn
        self._keeps = keeps
        self._slots = asyncio.Semaphore(run.options.tool_call_concurrency)
        self._locks: dict[str, asyncio.Lock] = {}
        self._lanes = lanes_of(run.journal)

    async def carry_out(self) -> bool:
        """Carries out all calls that are not the caller's. Whether some are the caller's."""
        ours = [call for call in self._turn.calls if not self._is_client(call)]
        if self._lanes is not None:
            self._lanes.fork(len(ours))
        await asyncio.gather(*map(self._one, ours))
        if self._lanes is not None:
            self._lanes.join()
        return len(ours) < len(self._turn.calls)

    def _is_client(self, call: ToolInvocation) -> bool:
        found = self._run.box.known(call.tool_name)
        return found is not None and found.is_client_tool

    async def _one(self, call: ToolInvocation) -> None:
        outcome = await self.outcome(call)
        self._run.state.settle(call.tool_call_id, outcome)
        if self._lanes is not None:
            self._lanes.finished()

    async def outcome(self, call: ToolInvocation) -> Outcome:
        """Carries out one call."""
        found = self._run.box.known(call.tool_name)
        site = CallSite(self._run, call, found)
        approval: dict[str, Json] = {}
        if call.tool_call_id in self._turn.gated:
            timeout = None if found is None else found.approval_timeout
            decision = await self._ask(site, "approval", timeout=timeout)
            if decision is None or not decision.approved:
                return {**await self._deny(site, decision), "answered": True}
            approval = {"approval": {"id": call.tool_call_id, "approved": True}}
            if decision.reason is not None:
                approval["approval"]["reason"] = decision.reason
            if decision.args is not None and found is not None and found.edit_args:
                site.args = decision.args
                approval["args"] = decision.args
        found_out = {**await self._by_kind(site), **approval}
        return {**found_out, "answered": True} if site.asked else found_out

    async def _by_kind(self, site: CallSite) -> Outcome:
        limit = self._run.options.repeated_call_limit
        if limit is not None and self._run.state.repeats(site.call) > limit:
            return await self._told(site, partial(_refused, site, limit))
        if site.call.tool_call_id in self._turn.background:
            return await in_background(site, self._turn.background[site.call.tool_call_id])
        name = site.call.tool_name
        if (key := self._run.box.agent_key(name)) is not None:
            return await self._delegate(site, key)
        if self._run.box.workflow(name) is not None:
            return await self._invoke(site)
        return await self._execute(site)

    async def _execute(self, site: CallSite) -> Outcome:
        """Carries a call out until it does not suspend any more."""
        while True:
            outcome = await self._in_slot(site)
            site.recorded = True
            if "suspended" in outcome:
                schema = None if site.tool is None else site.tool.resume_schema
                decision = await self._ask(site, "suspension", payload=outcome["suspended"], schema=schema)
                if decision is None or (not decision.approved and decision.data is None):
                    return await self._deny(site, decision)
                site.resume_data = {"approved": True} if decision.data is None else decision.data
            elif "interrupted" in outcome:
                decision = await self._ask(site, "approval", payload={"interrupted": True})
                if decision is None or not decision.approved:
                    return await self._deny(site, decision)
            else:
                return outcome
            site.execution += 1
            site.recorded = False

    async def _in_slot(self, site: CallSite) -> Outcome:
        async with self._slots:
            if site.tool is None or not site.tool.sequential:
                return await self._step(site)
            async with self._locks.setdefault(site.tool.name, asyncio.Lock()):
                return await self._step(site)

    async def _step(self, site: CallSite) -> Outcome:
        found = site.tool
        if found is not None and found.steps:
            # The body has steps of its own, so it runs beside them; the last step says what it came to.
            outcome = await site.beside()
            return outcome if "suspended" in outcome else await self._told(site, lambda: outcome)
        retries, once = (0, False) if found is None else (found.retries, found.on_crash != "retry")
        try:
            recorded: Outcome = await self._run.journal.step(
                site.step_id, partial(self._carried_out, site), retries=retries, once=once
            )
        except StepError as error:
            failure = {"error": said.told_error(error)}
            return await self._told(site, lambda: failure, suffix="/failed")
        return recorded

    async def _carried_out(self, site: CallSite, scope: StepScope) -> Outcome:
        if site.asked:
            # The thread must not show a question that has been answered.
            await self._keep()
        return await carried_out(site, scope)

    async def _told(self, site: CallSite, outcome: Callable[[], Outcome], suffix: str = "") -> Outcome:
        """Records an outcome that is known already, and says it."""

        async def tell(_: StepScope) -> Json:
            if site.asked:
                await self._keep()
            found = outcome()
            site.say(found)
            return found

        recorded: Outcome = await self._run.journal.step(site.step_id + suffix, tell, retries=0)
        return recorded

    async def _deny(self, site: CallSite, decision: Decision | None) -> Outcome:
        reason = NOT_IN_TIME if decision is None else decision.reason or NOT_APPROVED
        approval = {"id": site.call.tool_call_id, "approved": False, "reason": reason}
        # The step of an execution that suspended, or was interrupted, is recorded already.
        site.execution += site.recorded
        return await self._told(site, lambda: {"denied": reason, "approval": approval})

    async def _ask(
        self,
        site: CallSite,
        kind: Literal["approval", "suspension"],
        *,
        payload: Json = None,
        schema: Json = None,
        timeout: int | None = None,
    ) -> Decision | None:
        call = site.call
        question = Question(
            call.tool_call_id,
            call.tool_name,
            site.args,
            kind,
            args_hash(call.tool_name, site.args),
            payload,
            schema,
            timeout,
            site.asked,
            edit_args=site.tool is not None and site.tool.edit_args,
        )

        site.asked += 1

        async def announce() -> Chunk:
            await self._keep()
            return announcement(self._run.run_id, question)

        return await self._run.journal.ask(question, announce)

    async def _keep(self) -> None:
        """Keeps the conversation with the questions that are open now. Inside a step."""
        memory = self._run.services.memory
        noted: dict[str, Question] | None = None
        if memory is None or not self._keeps:
            return
        # Calls beside this one ask, and are answered, meanwhile: maybe by another process.
        while (asked := await self._run.journal.open_questions()) != noted:
            await memory.save(self._run.state.kept(self._turn.number, asked=asked))
            noted = asked

    async def _delegate(self, site: CallSite, key: str) -> Outcome:
        """Hands a call over to a sub-agent: a child run with its own input."""
        try:
            args = Shape(AGENT_SCHEMA).read(site.args)
        except ShapeError as error:
            return await self._refuse(site, error)
        run, call = self._run, site.call
        child = f"{run.run_id}.{call.tool_call_id}"
        request = _child_input(run, key, child, args, self._above())
        delegation = Delegation(
            f"sub:{call.tool_call_id}", call.tool_call_id, call.tool_name, key, args, child, request.to_json(),
            self._keep,
        )  # fmt: skip
        try:
            found: dict[str, Json] = await run.journal.delegate(delegation)
        except StepError as error:
            failure = {"error": said.told_error(error)}
            return await self._told(site, lambda: failure)
        site.asked += bool(found.get("answered"))
        return await self._told(site, partial(_of_child, found, request))

    def _above(self) -> list[Json]:
        """The texts of the conversation before this turn, which a sub-agent is told; that of a network has its task."""
        if self._run.request.network:
            return []
        before = [turn for turn in self._run.state.turns if turn.number < self._turn.number]
        return spoken([*self._run.state.input, *self._run.state.told(before)])

    async def _invoke(self, site: CallSite) -> Outcome:
        """Runs a workflow as a child run. Of what it does only the beginning and the end are known here."""
        run, call = self._run, site.call
        try:
            args = Shape(WORKFLOW_SCHEMA).read(site.args)
        except ShapeError as error:
            return await self._refuse(site, error)
        function = run.box.workflow(call.tool_name)
        assert function is not None
        child = f"{run.run_id}.{call.tool_call_id}"

        def tell(inner: Chunk) -> None:
            run.journal.push(forwarded(inner, run.run_id, call.tool_call_id, call.tool_name))

        async def begin(_: StepScope) -> None:
            tell(said.workflow_start(child, call.tool_name.removeprefix(WORKFLOW_PREFIX)))

        # Both at once, so that the beginning costs no commit of its own.
        begun = run.journal.step(f"sub:{call.tool_call_id}/start", begin, retries=0)
        invoked = run.journal.invoke(f"sub:{call.tool_call_id}", function, args["inputData"])
        _, result = await asyncio.gather(begun, invoked, return_exceptions=True)

        def came_of() -> Outcome:
            failed = isinstance(result, StepError)
            tell(said.workflow_finish(child, "failed" if failed else "success", result=None if failed else result))
            return {"error": said.told_error(result)} if failed else {"result": {"result": result, "runId": child}}

        if isinstance(result, BaseException) and not isinstance(result, StepError):
            raise result
        return await self._told(site, came_of)

    async def _refuse(self, site: CallSite, error: ShapeError) -> Outcome:
        refusal = input_refusal(site.call.tool_name, site.args, error)
        return await self._told(site, lambda: {"result": refusal})


def _refused(site: CallSite, limit: int) -> Outcome:
    message = (
        f"{site.call.tool_name} was called with the same arguments more than {limit} times in a row, and is not called "
        "again: use its results, or do something else"
    )
    return {"error": {"name": "RepeatedCallError", "message": message, "code": "REPEATED_CALL"}}


def _child_input(run: Run, key: str, child: str, args: dict[str, Json], above: list[Json]) -> RunInput:
    agent, request = run.agent.agents[key], run.request
    # A task has a thread of its own, so that what is said in it does not mix with the conversation of its parent.
    thread_id = f"{request.thread_id or run.run_id}-{child.rpartition('.')[2]}"
    resource_id = f"{request.resource_id or run.agent.id}-{key}"
    memory = {"thread": thread_id, "resource": resource_id} if agent.memory is not None else None
    options = RunOptions(
        request_context=run.options.request_context,
        system=[*_own_words(run), *([args["instructions"]] if args.get("instructions") else [])],
        context=above,
        max_steps=args.get("maxSteps"),
        memory=memory,
        require_tool_approval=run.options.require_tool_approval is True,
    )
    prompt: dict[str, Json] = {"id": f"{child}-u0", "role": "user", "createdAt": run.request.started_at}
    prompt["content"] = {"format": 2, "parts": [{"type": "text", "text": args["prompt"]}]}
    return RunInput(child, agent.id, [prompt], options, run.request.started_at, thread_id, resource_id)


def _own_words(run: Run) -> list[str]:
    """The instructions of a run that are a text, and so the same at every replay."""
    own = run.options.instructions or run.agent.instructions
    return [own] if isinstance(own, str) and own and not run.request.network else []


def _of_child(found: dict[str, Json], request: RunInput) -> Outcome:
    answered = {"answered": True} if found.get("answered") else {}
    if found.get("error"):
        return {"error": found["error"], **answered}
    text = found.get("text") or ""
    result: dict[str, Json] = {
        "text": text,
        "subAgentThreadId": request.thread_id,
        "subAgentResourceId": request.resource_id,
        "subAgentToolResults": [],
    }
    outcome: Outcome = {"result": result, "modelOutput": {"type": "text", "value": text}, **answered}
    if found.get("usage"):
        outcome["usage"] = found["usage"]
    return outcome

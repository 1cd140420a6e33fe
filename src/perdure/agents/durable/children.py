"""The child runs of durable runs: sub-agents, each carried out by a run of the engine of its own.

One function of the app, `agent-sub-agents`, carries out those of all its agents. The parent begins a child in its step
`sub:<call>`, which follows the child's log and says it again, as `tool-output` of the call. Where the child has
nothing but questions left, the step ends, and the parent asks them under names of its own (`<call>><inner call>`); once
one is decided, the decision is handed down, and the next step, `sub:<call>@<n>`, follows the child from there.

Invariants: what a child takes back, the parent takes back; a child ends when its parent is cancelled or fails; it is
decided only by way of the run at the top.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from typing import Final
from weakref import WeakKeyDictionary

import msgspec

from perdure.agents.chunks import Chunk, forwarded
from perdure.agents.declared import DeclaredAgent
from perdure.agents.durable.accelerators import Accelerators
from perdure.agents.durable.body import Body
from perdure.agents.durable.compacting import Compacting
from perdure.agents.durable.engines import Engine
from perdure.agents.durable.journal import DurableJournal, Identity
from perdure.agents.durable.log import ROLLBACK, View
from perdure.agents.durable.loop_body import LoopBody
from perdure.agents.durable.naming import STORED, SUB_AGENTS, slug_of, trigger_of
from perdure.agents.durable.reader import ChunkReader
from perdure.agents.durable.variants import body_of
from perdure.agents.errors import ConflictError, GoneError
from perdure.agents.journal import Decision, Delegation, Journal, Question, StepScope
from perdure.agents.loop import run_loop
from perdure.agents.ports import Services
from perdure.agents.questions import announcement
from perdure.agents.recollection import recollection_of
from perdure.agents.state import RunInput
from perdure.agents.storage import AgentRun, Approval
from perdure.engine.agents.approvals import ApprovalDecision
from perdure.engine.agents.records import AgentRunStatus
from perdure.model.config import CancelOn, on
from perdure.model.errors import NonRetriableError, RetryAfterError, error_info
from perdure.model.event import FUNCTION_CANCELLED, FUNCTION_FAILED
from perdure.model.jcs import canonical
from perdure.model.json import Json, decode, encode
from perdure.model.limits import MAX_RETRIES
from perdure.model.records import RunStatus
from perdure.sdk.app import App
from perdure.sdk.context import Context
from perdure.sdk.function import Function
from perdure.sdk.step import step

STATUSES: dict[str, AgentRunStatus] = {"error": "failed", "abort": "aborted"}
"""How a run stands that ended for this reason; finished for all others."""
_UNBEGUN: Final = 2.0
"""How long (seconds) a child is waited for in a step that has not said anything yet: it may wait for room."""
_FIRST: Final = asyncio.FIRST_COMPLETED
_PAUSE: Final = 0.005
_NOT_IN_TIME: Final = "Nobody approved the tool call in time"


class Task(msgspec.Struct, rename="camel"):
    """The data of the event that begins a child: whose it is, and what it is to do.

    `agent_id` and `top` are the agent and the run at the top, `path` the keys by which the sub-agent is found below it,
    `parent` is the engine's run that has begun it.
    """

    app_id: str
    agent_id: str
    top: str
    path: list[str]
    parent: str
    input: dict[str, Json]


class Children:
    """Begins and follows the child runs of one run. Fills `ChildRuns`."""

    def __init__(self, function: Function[Json], engine: Engine, whose: Task, agent: DeclaredAgent) -> None:
        self._function = function
        self._engine = engine
        self._whose = whose
        self._agent = agent

    async def carry_out(self, journal: Journal, delegation: Delegation) -> Json:
        """Lets a sub-agent carry out a task; its result as JSON."""
        asked: dict[str, asyncio.Task[None]] = {}
        after = number = 0
        try:
            while True:
                id = delegation.id + (f"@{number}" if number else "")
                follow = partial(self._follow, journal, delegation, after)
                found: dict[str, Json] = await journal.step(id, follow, retries=MAX_RETRIES)
                if "result" in found:
                    return found["result"] if not number else {**found["result"], "answered": True}
                after, number = found["after"], number + 1
                if not found["questions"]:
                    # It has not begun: others may need the room that this run takes up.
                    await step.sleep(f"{id}/room", _UNBEGUN)
                    continue
                alone = not asked and len(found["questions"]) == 1
                questions = [msgspec.convert(item, Question) for item in found["questions"]]
                for question in questions:
                    if question.place not in asked:
                        asks = self._ask(journal, delegation, question, alone=alone)
                        asked[question.place] = asyncio.ensure_future(asks)
                done, _ = await asyncio.wait([asked[each.place] for each in questions], return_when=_FIRST)
                for asking in done:
                    # A replay finds what was decided later, too; what failed is raised.
                    asking.result()
        finally:
            for left in asked.values():
                left.cancel()

    async def _follow(self, journal: Journal, delegation: Delegation, after: int, scope: StepScope) -> Json:
        """Says what the child says, until it is over or only asks. What it came to, or what it asks."""
        run = await self._begun(journal.run_id, delegation)
        assert run.engine_run_id is not None
        # One that takes back too often is told only once it is sure.
        view: View = "settled" if scope.attempt else "committed"
        reader = ChunkReader(self._engine, run.run_id, run.engine_run_id, after=after, view=view)
        last = after
        async with aclosing(reader) as chunks:
            while (said := await _next(chunks, patient=last > 0)) is not None:
                if said.type == "suspended":
                    return {"after": last, "questions": await self._questions(delegation, run.run_id)}
                if said.type == ROLLBACK:
                    raise RetryAfterError(f"run {run.run_id} took back what it had said", 0)
                last = max(last, said.index)
                journal.push(forwarded(said, journal.run_id, delegation.tool_call_id, delegation.tool_name))
        standing = await self._engine.standing(run.engine_run_id)
        if not last and not standing.status.final:
            return {"after": 0, "questions": []}
        return {"result": await self._result(run.engine_run_id)}

    async def _begun(self, parent_run_id: str, delegation: Delegation) -> AgentRun:
        agent, data = self._agent.agents[delegation.key], delegation.data
        task = msgspec.structs.replace(self._whose, path=[*self._whose.path, delegation.key], input=data)
        plain = msgspec.to_builtins(task)
        run = AgentRun(
            delegation.run_id,
            agent.id,
            agent.version,
            hashlib.sha256(canonical(plain)).hexdigest(),
            data.get("threadId"),
            data.get("resourceId"),
            parent_run_id=parent_run_id,
            detail={"toolCallId": delegation.tool_call_id},
            inbox_closed=True,
        )
        return (await self._engine.begin(run, self._function, plain))[0]

    async def _questions(self, delegation: Delegation, run_id: str) -> Json:
        page = await self._engine.storage.approvals(run_ids=[run_id], statuses=["pending"], per_page=None)
        rows = sorted(page.items, key=lambda row: (row.asked_at, row.tool_call_id))
        return [msgspec.to_builtins(_question(delegation, row, self._engine.now())) for row in rows]

    async def _ask(self, journal: Journal, delegation: Delegation, question: Question, *, alone: bool) -> None:
        """Asks what a child asks, and hands the decision down."""
        shown = question.tool_call_id if alone else question.place

        async def announce() -> Chunk:
            await delegation.keep()
            return announcement(journal.run_id, question, shown)

        decision = await journal.ask(question, announce)
        hand_down = partial(self._hand_down, delegation, question.inner, decision)
        await journal.step(f"{delegation.id}/decide:{question.inner}", hand_down, retries=MAX_RETRIES)

    async def _hand_down(self, delegation: Delegation, place: str, decision: Decision | None, _: StepScope) -> None:
        run_id = delegation.run_id
        await delegation.keep()
        found = decision or Decision(False, _NOT_IN_TIME)
        told = ApprovalDecision(found.approved, found.reason, found.data, found.args, found.by)
        try:
            await self._engine.decide(run_id, place, told)
        except (ConflictError, GoneError):
            # By an attempt before; or its time is over for the child as well.
            return
        left = await self._engine.storage.approvals(run_ids=[run_id], statuses=["pending"], per_page=1)
        if not left.total:
            await self._engine.storage.set_run_status(run_id, "running")

    async def _result(self, engine_run_id: str) -> Json:
        while not (standing := await self._engine.standing(engine_run_id)).status.final:
            await asyncio.sleep(_PAUSE)
        if standing.status == RunStatus.COMPLETED:
            return decode(standing.output)
        if standing.status == RunStatus.FAILED:
            info = error_info(standing.output)
            return {"error": {"name": info.name, "message": info.message}}
        return {"error": {"name": "AgentAbortedError", "message": "the run of the sub-agent was aborted"}}


class _Served(msgspec.Struct):
    """An agent whose sub-agents are carried out."""

    body: Body
    engine: Callable[[], Engine]
    keep_for: int | None
    compacting: Compacting


class ChildFunction:
    """Registers the function that carries out the sub-agents of an app's agents."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._served: dict[str, _Served] = {}
        condition = "async.data.run_id == event.data.parent"
        self.function = app.function(
            slug_of(SUB_AGENTS),
            name="Sub-agents of agents",
            trigger=on(trigger_of(SUB_AGENTS), if_=f"event.data.appId == {encode(app.id).decode()}"),
            cancel_on=[CancelOn(FUNCTION_CANCELLED, if_=condition), CancelOn(FUNCTION_FAILED, if_=condition)],
        )(self._handle)

    def serve(self, body: Body, engine: Callable[[], Engine], keep_for: int | None, compacting: Compacting) -> None:
        """Carries out the sub-agents of an agent too."""
        self._served[body.id] = _Served(body, engine, keep_for, compacting)

    def of_run(self, body: Body, agent_id: str, run_id: str, engine_run_id: str, engine: Engine) -> Children | None:
        """The children of a run at the top; None where its agent has no sub-agents."""
        if not isinstance(body, LoopBody) or not body.wrapped.agents:
            return None
        whose = Task(self._app.id, agent_id, run_id, [], engine_run_id, {})
        return Children(self.function, engine, whose, body.bound_to(engine.storage))

    async def _handle(self, ctx: Context) -> dict[str, Json]:
        try:
            task = msgspec.convert(ctx.event.data, Task)
            request = RunInput.from_json(task.input)
        except msgspec.ValidationError as error:
            raise NonRetriableError(f"the event of a sub-agent's run: {error}") from error
        served = self._served.get(task.agent_id) or self._served.get(STORED)
        if served is None:
            raise NonRetriableError(f"no agent {task.agent_id!r} of this app has sub-agents")
        engine = served.engine()
        await _admit(engine, task, request.run_id, ctx.run_id)
        agent = await self._agent(task, served, engine)
        whose = Identity(request.run_id, ctx.run_id, agent.id, agent.version, request.thread_id, request.resource_id)
        journal = DurableJournal(whose, engine, Accelerators(None, None), served.body.delegate)
        own = msgspec.structs.replace(task, parent=ctx.run_id)
        journal.children = Children(self.function, engine, own, agent)
        result = await run_loop(agent, journal, request, Services(memory=recollection_of(agent, request)))
        status = STATUSES.get(result.finish_reason, "finished")
        await engine.storage.set_run_status(
            request.run_id, status, finish_reason=result.finish_reason, keep_for=served.keep_for
        )
        served.compacting.later(engine, ctx.run_id)
        return result.to_json()

    async def _agent(self, task: Task, served: _Served, engine: Engine) -> DeclaredAgent:
        """The sub-agent, as the agent of the run at the top has it."""
        top = await engine.storage.run(task.top)
        body = served.body if top is None else body_of(self._app, top, served.body)
        if not isinstance(body, LoopBody):
            raise NonRetriableError(f"agent {task.agent_id!r} has no sub-agents")
        agent: DeclaredAgent = body.bound_to(engine.storage)
        for key in task.path:
            found = agent.agents.get(key)
            if found is None:
                raise NonRetriableError(f"agent {agent.id!r} has no sub-agent {key!r} any more")
            agent = found
        return agent


async def _next(chunks: ChunkReader, *, patient: bool) -> Chunk | None:
    """The next chunk, None at the end, or where nothing is said for long and it must not be waited for."""
    try:
        async with asyncio.timeout(None if patient else _UNBEGUN):
            return await anext(chunks, None)
    except TimeoutError:
        return None


def _question(delegation: Delegation, row: Approval, now: int) -> Question:
    return Question(
        delegation.tool_call_id,
        row.tool_name,
        row.args,
        row.kind,
        row.args_hash,
        row.payload,
        row.resume_schema,
        None if row.expires_at is None else max(row.expires_at - now, 1),
        inner=row.tool_call_id,
    )


async def _admit(engine: Engine, task: Task, run_id: str, engine_run_id: str) -> None:
    """Raises `NonRetriableError` where the run is not what was put down, or is carried out by another one."""
    run = await engine.storage.run(run_id)
    if run is None or run.input_hash != hashlib.sha256(canonical(msgspec.to_builtins(task))).hexdigest():
        raise NonRetriableError(f"there is no run {run_id!r} of a sub-agent like the one of this event")
    if run.engine_run_id is None:
        run = await engine.storage.bind_run(run_id, engine_run_id)
    if run.engine_run_id != engine_run_id:
        raise NonRetriableError(f"run {run_id!r} is carried out by {run.engine_run_id} already")


def is_child(run: AgentRun) -> bool:
    """Whether it is the run of a sub-agent."""
    return run.parent_run_id is not None and "toolCallId" in run.detail


_OF_APPS: WeakKeyDictionary[App, ChildFunction] = WeakKeyDictionary()


def children_of_app(app: App) -> ChildFunction:
    """The function of an app that carries out sub-agents; it is registered with the first agent that has some."""
    found = _OF_APPS.get(app)
    if found is None:
        found = _OF_APPS[app] = ChildFunction(app)
    return found

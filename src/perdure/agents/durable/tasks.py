"""Background tasks as durable runs: one function of the app, `agent-tasks`, carries out those of all its agents.

A task is begun by its run's step `tool:<id>`, and has a row in the storage beside its run of the function. Whoever
waits for it is told by an event. Invariants:
- an event alone starts nothing: a task must have been stored as the event says, and has one run;
- the event is sent after the row is written, and again by whoever finds the row settled, so that no wait misses it;
- a task whose run failed for good, in whatever way, has a row that says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

import msgspec

from perdure.agents.background.config import AGENT_LIMIT, GLOBAL_LIMIT, eligible
from perdure.agents.background.port import Work
from perdure.agents.chunks import Chunk
from perdure.agents.declared import DeclaredAgent
from perdure.agents.dispatch.keeping import keep
from perdure.agents.durable.accelerators import Accelerators
from perdure.agents.durable.body import Body
from perdure.agents.durable.children import children_of_app
from perdure.agents.durable.engines import Engine
from perdure.agents.durable.journal import DurableJournal, Identity
from perdure.agents.durable.loop_body import LoopBody
from perdure.agents.durable.naming import STORED, TASKS, slug_of, trigger_of
from perdure.agents.durable.reader import history
from perdure.agents.durable.variants import body_of
from perdure.agents.storage import AgentRun, AgentStorage, Task
from perdure.agents.tasks.executing import execute
from perdure.engine.agents.records import SETTLED, TaskStatus
from perdure.model.config import Concurrency, on
from perdure.model.errors import NonRetriableError
from perdure.model.json import Json, encode
from perdure.sdk.app import App
from perdure.sdk.context import Context
from perdure.sdk.function import Function
from perdure.sdk.step import step

CHANGED_EVENT: Final = "perdure/agent.task.changed"
"""Sent when a task is suspended or has ended: `{taskId, runId, agentId, status}`."""


class DurableTasks:
    """The background tasks of one run. Fills `BackgroundTasks`."""

    def __init__(self, journal: DurableJournal, engine: Engine, app_id: str, function: Function[Json]) -> None:
        self._journal = journal
        self._engine = engine
        self._app_id = app_id
        self._function = function

    async def begin(self, task: Task, work: Work) -> None:
        await self._engine.storage.put_task(task)
        work.app_id = self._app_id
        detail = {"messageId": work.message_id}
        run = AgentRun(task.id, TASKS, "1", task.id, parent_run_id=task.run_id, detail=detail)
        await self._engine.begin(run, self._function, msgspec.to_builtins(work))

    async def settled(self, task_id: str, label: str, timeout: int) -> bool:
        condition = f"async.data.taskId == {encode(task_id).decode()}"
        waiting = asyncio.ensure_future(
            step.wait_for_event(label, event=CHANGED_EVENT, timeout=timeout / 1000, if_=condition)
        )
        try:
            await step.run(f"{label}/look", self._look, task_id, label)
            event = await waiting
        except BaseException:
            waiting.cancel()
            raise
        return event is not None and event.data.get("status") in SETTLED

    async def task(self, task_id: str) -> Task | None:
        return await self._engine.storage.task(task_id)

    async def outputs(self, task_id: str) -> list[Chunk]:
        run = await self._engine.storage.run(task_id)
        if run is None or run.engine_run_id is None:
            return []
        last = await self._engine.last_offset(run.engine_run_id)
        said = await history(self._engine, task_id, run.engine_run_id, last) if last else []
        return [Chunk(item) for item in said if item.type == "background-task-output"]

    async def _look(self, task_id: str, label: str) -> None:
        """Tells the wait of what happened before it began."""
        await self._journal.until_it_waits(label)
        task = await self._engine.storage.task(task_id)
        if task is not None and (task.status in SETTLED or task.status == "suspended"):
            await self._engine.send(changed_event(task, label))


class EngineBook:
    """Where it is noted how tasks stand: their rows, and events that tell of them. Fills `TaskBook`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def note(
        self,
        task_id: str,
        status: TaskStatus,
        *,
        result: Json = None,
        error: Json = None,
        suspend_payload: Json = None,
        retry_count: int | None = None,
    ) -> Task:
        task = await self._engine.storage.set_task(
            task_id, status, result=result, error=error, suspend_payload=suspend_payload, retry_count=retry_count
        )
        if task.status in SETTLED or task.status == "suspended":
            await self._engine.send(changed_event(task, "first"))
        return task


class _Served(msgspec.Struct):
    """An agent whose tasks are carried out."""

    body: Body
    engine: Callable[[], Engine]
    keep_for: int | None


class TaskFunction:
    """Registers the function that carries out the background tasks of an app's agents."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._served: dict[str, _Served] = {}
        self.function = app.function(
            slug_of(TASKS),
            name="Background tasks of agents",
            trigger=on(trigger_of(TASKS), if_=f"event.data.appId == {encode(app.id).decode()}"),
            concurrency=[
                Concurrency(GLOBAL_LIMIT, hold="active"),
                Concurrency(AGENT_LIMIT, key="event.data.agentId", hold="active"),
            ],
            on_failure=self._failed,
        )(self._handle)

    def serve(self, body: Body, engine: Callable[[], Engine], keep_for: int | None) -> None:
        """Carries out the tasks of an agent too."""
        self._served[body.id] = _Served(body, engine, keep_for)

    def of_run(self, journal: DurableJournal, engine: Engine) -> DurableTasks:
        """The tasks of a run."""
        return DurableTasks(journal, engine, self._app.id, self.function)

    async def _handle(self, ctx: Context) -> dict[str, Json]:
        work, served = self._work(ctx.event.data)
        engine = served.engine()
        await _admit(engine.storage, work, ctx.run_id)
        body = await self._body_of(work, served, engine)
        whose = Identity(work.task_id, ctx.run_id, TASKS, "1")
        journal = DurableJournal(whose, engine, Accelerators(None, None), body.delegate)
        if body.wrapped.agents:
            children = children_of_app(self._app)
            journal.children = children.of_run(body, work.agent_id, work.input["runId"], ctx.run_id, engine)
        done = await execute(work, body.bound_to(engine.storage), journal, EngineBook(engine))
        await _over(engine, work, done["status"] == "completed", served.keep_for)
        return done

    async def _failed(self, ctx: Context) -> None:
        """The run of a task failed outside of what its steps catch."""
        data = ctx.event.data
        work, served = self._work(data["event"]["data"])
        await step.run("fail", self._fail, work, served, data["run_id"], data.get("error") or {})

    async def _fail(self, work: Work, served: _Served, engine_run_id: str, error: dict[str, Json]) -> None:
        engine = served.engine()
        run = await engine.storage.run(work.task_id)
        if run is None or run.engine_run_id != engine_run_id:
            return
        told = {"name": error.get("name") or "Error", "message": error.get("message") or "the task failed"}
        task = await EngineBook(engine).note(work.task_id, "failed", error=told)
        body = await self._body_of(work, served, engine)
        await keep(body.bound_to(engine.storage), task, work.message_id)
        await _over(engine, work, False, served.keep_for)

    async def _body_of(self, work: Work, served: _Served, engine: Engine) -> LoopBody:
        """The body of the run that began the task."""
        run = await engine.storage.run(work.input["runId"])
        body = served.body if run is None else body_of(self._app, run, served.body)
        if not isinstance(body, LoopBody):
            raise NonRetriableError(f"the run of the background task {work.task_id!r} is not known any more")
        return body

    def _work(self, data: Json) -> tuple[Work, _Served]:
        try:
            work = msgspec.convert(data, Work)
        except msgspec.ValidationError as error:
            raise NonRetriableError(f"the event of a background task: {error}") from error
        served = self._served.get(work.agent_id) or self._served.get(STORED)
        if served is None:
            raise NonRetriableError(f"no agent {work.agent_id!r} of this app has background tasks")
        return work, served


def changed_event(task: Task, occasion: str) -> dict[str, Json]:
    """The event that tells of a task; sent twice on the same occasion it counts once."""
    at = task.suspended_at if task.status == "suspended" else task.completed_at
    data = {"taskId": task.id, "runId": task.run_id, "agentId": task.agent_id, "status": task.status}
    return {"name": CHANGED_EVENT, "id": f"{CHANGED_EVENT}:{task.id}:{task.status}:{at}:{occasion}", "data": data}


def has_background(agent: DeclaredAgent) -> bool:
    """Whether some calls of an agent may run in the background."""
    config = agent.background_tasks
    if config is not None and (config.disabled or config.tools):
        return not config.disabled
    return any(eligible(config, name, found) for name, found in agent.tools.items())


async def _admit(storage: AgentStorage, work: Work, engine_run_id: str) -> None:
    """Raises `NonRetriableError` where the task is not what was stored, or has another run."""
    run, task = await storage.run(work.task_id), await storage.task(work.task_id)
    said = (work.agent_id, work.tool_name, work.tool_call_id, work.args)
    if run is None or task is None or (task.agent_id, task.tool_name, task.tool_call_id, task.args) != said:
        raise NonRetriableError(f"there is no background task {work.task_id!r} like the one of this event")
    if run.engine_run_id is None:
        run = await storage.bind_run(work.task_id, engine_run_id)
    if run.engine_run_id != engine_run_id:
        raise NonRetriableError(f"the background task {work.task_id!r} is carried out by {run.engine_run_id} already")


async def _over(engine: Engine, work: Work, well: bool, keep_for: int | None) -> None:
    await engine.storage.set_run_status(
        work.task_id, "finished" if well else "failed", finish_reason="stop" if well else "error", keep_for=keep_for
    )


_OF_APPS: WeakKeyDictionary[App, TaskFunction] = WeakKeyDictionary()


def tasks_of(app: App) -> TaskFunction:
    """The function of an app that carries out background tasks; it is registered with the first agent that has some."""
    found = _OF_APPS.get(app)
    if found is None:
        found = _OF_APPS[app] = TaskFunction(app)
    return found

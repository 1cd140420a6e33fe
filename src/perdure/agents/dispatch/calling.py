"""A tool call that becomes a background task: the step `tool:<id>` stores and starts it instead of carrying it out.

A deferred call has a placeholder as its result then. An awaited one is waited for (`bg:<taskId>`), and its real
result recorded by `tool:<id>@1`; where it takes longer than the agent waits, it is deferred after all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from perdure.agents import said
from perdure.agents.background import told
from perdure.agents.background.config import OVERRIDE, Plan, eligible, plan_of
from perdure.agents.background.port import BackgroundTasks, Work
from perdure.agents.carrying import CallSite, Outcome
from perdure.agents.chunks import Chunk
from perdure.agents.dispatch.keeping import outcome_of
from perdure.agents.journal import StepScope
from perdure.agents.messages import ToolPart
from perdure.agents.models import Answer, ToolSpec
from perdure.agents.run import Run
from perdure.agents.schemas import ShapeError
from perdure.agents.storage import Task
from perdure.agents.tools import Background, input_refusal
from perdure.engine.agents.records import SETTLED
from perdure.model.errors import StepError
from perdure.model.json import Json

_RETRIES = 4
_MAX_NAME = 100
"""Ids of tasks are parts of ids of events and steps, which have their limits."""
_PATIENCE = 30 * 24 * 3600 * 1000
"""How long (ms) an awaited call may take where its agent does not say it, the time in the queue included."""


async def in_background(site: CallSite, plain: Json) -> Outcome:
    """Makes a task of a call; what it came to, or the placeholder. `plain` is the plan as it was recorded."""
    run, plan = site.run, Plan.from_json(plain)
    tasks = run.services.tasks
    assert tasks is not None
    task = _task(site, plan)

    async def begin(_: StepScope) -> Json:
        return await _begin(site, tasks, task, plan)

    try:
        begun: Outcome = await run.journal.step(site.step_id, begin, retries=_RETRIES)
    except StepError as error:
        return await _recorded(site, "/failed", {"error": said.told_error(error)})
    if "result" in begun or "error" in begun:
        return begun
    wait = run.agent.background_tasks.wait_timeout if run.agent.background_tasks is not None else None
    await tasks.settled(task.id, f"bg:{task.id}", wait or _PATIENCE)
    site.execution += 1

    async def end(_: StepScope) -> Json:
        return await _end(site, tasks, task)

    outcome: Outcome = await run.journal.step(site.step_id, end, retries=_RETRIES)
    return outcome


def plans(run: Run, answer: Answer) -> dict[str, Json]:
    """Takes what the model asked for out of the arguments of an answer's calls; the plans of those to run behind."""
    found: dict[str, Json] = {}
    for part in answer.parts:
        if not isinstance(part, ToolPart) or part.provider_executed:
            continue
        call = part.tool_invocation
        known = run.box.known(call.tool_name)
        if known is not None and (known.is_client_tool or OVERRIDE in known.input_schema.get("properties", {})):
            continue
        asked = None
        if isinstance(call.args, dict) and OVERRIDE in call.args:
            asked = call.args[OVERRIDE]
            call.args = {key: value for key, value in call.args.items() if key != OVERRIDE}
        plan = plan_of(_eligible(run, call.tool_name), asked)
        if plan is not None:
            found[call.tool_call_id] = msgspec.to_builtins(plan)
    return found


def explained(run: Run, specs: list[ToolSpec]) -> tuple[list[ToolSpec], list[str]]:
    """The tools as the model is told of them, and what the system prompt says about those that may run behind."""
    known: Mapping[str, Background] = {
        spec.name: how for spec in specs if (how := _eligible(run, spec.name)) is not None
    }
    if not known:
        return specs, []
    return [told.with_override(spec) if spec.name in known else spec for spec in specs], [told.paragraph(known)]


def _eligible(run: Run, name: str) -> Background | None:
    """How calls of a tool may run behind this run: not those of a tool that only this run was given, or has."""
    closures = run.services.closures
    of_memory = run.recalled is not None and any(found.name == name for found in run.recalled.tools)
    here = name in run.agent.tools or run.box.agent_key(name) is not None or run.box.workflow(name) is not None
    if run.services.tasks is None or of_memory or name in closures.tools or (closures.toolsets and not here):
        return None
    return eligible(run.agent.background_tasks, name, run.box.known(name))


async def _begin(site: CallSite, tasks: BackgroundTasks, task: Task, plan: Plan) -> Outcome:
    run = site.run
    if site.tool is not None:
        try:
            site.tool.read_args(site.args)
        except ShapeError as error:
            refusal: Outcome = {"result": input_refusal(site.tool.name, site.args, error)}
            site.say(refusal)
            return refusal
    options = msgspec.structs.replace(run.options, context=[], memory=None, structured_output=None, client_tools={})
    slim = msgspec.structs.replace(run.request, messages=[], options=options)
    work = Work(
        task.id, task.agent_id, task.tool_name, task.tool_call_id, task.args, plan.timeout, plan.retries,
        run.state.message_of(task.tool_call_id) if run.services.memory is not None else "", slim.to_json(),
    )  # fmt: skip
    await tasks.begin(task, work)
    run.journal.push(told.started(task))
    if plan.disposition == "awaited":
        return {"task": {"taskId": task.id, "status": "running"}}
    return _deferred(site, task)


async def _end(site: CallSite, tasks: BackgroundTasks, task: Task) -> Outcome:
    found = await tasks.task(task.id)
    if found is None or found.status not in SETTLED:
        return _deferred(site, task)
    outcome = outcome_of(found, site.tool)
    push = site.run.journal.push
    for item in (told.running(found), *await tasks.outputs(task.id)):
        push(item)
    if "result" in outcome:
        push(_result(site, found, outcome["result"]))
    else:
        site.say(outcome)
    push(told.ended(found))
    return outcome


def _deferred(site: CallSite, task: Task) -> Outcome:
    result = told.placeholder(task)
    site.run.journal.push(_result(site, task, result))
    about = {"taskId": task.id, "status": "running", "startedAt": task.created_at}
    return {"result": result, "task": about}


def _result(site: CallSite, task: Task, result: Json) -> Chunk:
    item = said.tool_result(site.run.run_id, site.shown, result)
    status = task.status if task.status in SETTLED else "running"
    item["payload"]["providerMetadata"] = told.metadata(task.id, status)
    return item


def task_id_of(run_id: str, tool_call_id: str) -> str:
    """The id of the task that a call becomes: the same at every attempt.

    >>> task_id_of("r1", "call_1")
    'task-r1-call_1'
    """
    named = f"{run_id}-{tool_call_id}"
    if len(named) > _MAX_NAME:
        named = hashlib.sha256(named.encode()).hexdigest()[:32]
    return f"task-{named}"


def _task(site: CallSite, plan: Plan) -> Task:
    run, call = site.run, site.call
    return Task(
        id=task_id_of(run.run_id, call.tool_call_id),
        run_id=run.run_id,
        agent_id=run.request.agent_id,
        tool_name=call.tool_name,
        tool_call_id=call.tool_call_id,
        args=site.args,
        thread_id=run.request.thread_id,
        resource_id=run.request.resource_id,
        max_retries=plan.retries,
        timeout_ms=plan.timeout,
        created_at=run.journal.now(),
    )


async def _recorded(site: CallSite, suffix: str, outcome: Outcome) -> Outcome:
    async def tell(_: StepScope) -> Json:
        site.say(outcome)
        return outcome

    found: Outcome = await site.run.journal.step(site.step_id + suffix, tell, retries=0)
    return found

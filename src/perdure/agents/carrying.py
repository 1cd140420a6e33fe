"""Carrying out one tool call: what happens inside its step.

Invariants: whatever a tool does comes back as an outcome (`result`, `error`, `suspended`, `interrupted`), never as an
exception, except where another attempt is still to be made; what is said of it is said in the attempt that counts.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Final, TypeAlias

from perdure.agents import said
from perdure.agents.context import ToolContext, ToolSuspended, Writer
from perdure.agents.journal import StepScope
from perdure.agents.messages import ToolInvocation
from perdure.agents.resuming import handed_over
from perdure.agents.run import Run
from perdure.agents.schemas import ShapeError
from perdure.agents.tools import Tool, input_refusal
from perdure.model import values
from perdure.model.errors import NonRetriableError
from perdure.model.json import Json, decode, encode
from perdure.model.limits import MAX_STEP_BYTES

Outcome: TypeAlias = dict[str, Json]
"""What a call came to: one of `result`, `error`, `denied`, `suspended`, `interrupted`; with `modelOutput`, `approval`
and `args` where they matter."""


MAX_OUTCOME: Final = MAX_STEP_BYTES - 64 * 1024
"""Bytes that what a call comes to may have, as JSON."""


class CallSite:
    """One call, and where it stands: how often it was carried out and has asked."""

    def __init__(self, run: Run, call: ToolInvocation, found: Tool | None) -> None:
        self.run = run
        self.call = call
        self.tool = found
        self.args: Json = {} if call.args is None else call.args
        self.resume_data: Json = None
        self.execution = 0
        self.asked = 0
        self.recorded = False
        self._done: dict[str, Json] = {}

    @property
    def step_id(self) -> str:
        """The id of the step of this execution."""
        return f"tool:{self.call.tool_call_id}" + (f"@{self.execution}" if self.execution else "")

    @property
    def shown(self) -> dict[str, Json]:
        """The call as chunks tell it."""
        return {"toolCallId": self.call.tool_call_id, "toolName": self.call.tool_name, "args": self.args}

    def say(self, outcome: Outcome) -> None:
        """Says what the call came to. Inside the step that records it."""
        run_id, push = self.run.run_id, self.run.journal.push
        if "denied" in outcome:
            push(said.denied(run_id, self.shown, outcome["denied"]))
        elif "error" in outcome:
            push(said.tool_error(run_id, self.shown, outcome["error"]))
        elif "result" in outcome:
            push(said.tool_result(run_id, self.shown, outcome["result"]))

    def context(self, attempt: int, steps: Callable[..., Json] | None = None) -> ToolContext:
        """What the tool's function is told."""
        run, call = self.run, self.call
        return ToolContext(
            run_id=run.run_id,
            agent_id=run.agent.id,
            tool_call_id=call.tool_call_id,
            tool_name=call.tool_name,
            writer=Writer(run.journal.push, run.run_id, call.tool_call_id, call.tool_name),
            thread_id=run.request.thread_id,
            resource_id=run.request.resource_id,
            request_context=run.options.request_context,
            attempt=attempt,
            resume_data=self.resume_data,
            steps=steps,
        )

    async def beside(self) -> Outcome:
        """Carries out a tool whose body has steps: beside them, not inside one."""
        assert self.tool is not None
        return await _called(self, self.tool, self.context(0, self._nested), attempts_left=False)

    async def _nested(self, name: str, call: Callable[..., Json], *args: Json, **kwargs: Json) -> Json:
        # A body that is carried out again after it suspended finds here what it has done before.
        if name not in self._done:

            async def once(_: StepScope) -> Json:
                if inspect.iscoroutinefunction(call):
                    found = await call(*args, **kwargs)
                else:
                    found = await asyncio.to_thread(call, *args, **kwargs)
                    found = await found if inspect.isawaitable(found) else found
                return decode(values.encode(found, where=f"step {name!r}"))

            step_id = f"tool:{self.call.tool_call_id}/{name}"
            retries = 0 if self.tool is None else self.tool.retries
            self._done[name] = await self.run.journal.step(step_id, once, retries=retries)
        return self._done[name]


async def carried_out(site: CallSite, scope: StepScope) -> Outcome:
    """Carries a call out, and says what it came to. Raises what the tool raises while attempts are left."""
    found = site.tool or await _find(site)
    if isinstance(found, str):
        outcome: Outcome = {"error": {"name": "ToolNotFoundError", "message": found, "code": "TOOL_NOT_FOUND"}}
    elif scope.attempt and found.on_crash == "ask":
        return {"interrupted": True}
    elif scope.attempt and found.on_crash == "at_most_once":
        outcome = {"error": _interrupted(found.name)}
    else:
        outcome = await _called(site, found, site.context(scope.attempt), attempts_left=scope.attempt < found.retries)
    site.say(outcome)
    return outcome


async def _called(site: CallSite, found: Tool, ctx: ToolContext, *, attempts_left: bool) -> Outcome:
    try:
        given, resume_data = handed_over(site.run, found, site.args)
        args = found.read_args(given)
        again = resume_data is not None
        resume_data = resume_data if site.resume_data is None else site.resume_data
        if resume_data is not None:
            ctx.resume_data = found.read_resume(resume_data)
    except ShapeError as error:
        return {"result": input_refusal(found.name, site.args, error)}
    if again and site.run.services.earlier is not None:
        await site.run.services.earlier.answered(found.name, given)
    limit = asyncio.timeout(None if found.timeout is None else found.timeout / 1000)
    try:
        async with limit:
            result = await found.call(args, ctx)
        outcome: Outcome = {"result": result}
        if ctx.writer.kept:
            outcome["data"] = decode(values.encode(ctx.writer.kept, where=f"tool {found.name!r}: writer"))
        if found.model_output is not None:
            outcome["modelOutput"] = found.model_output(result)
    except ToolSuspended as suspended:
        return {"suspended": decode(values.encode(suspended.payload, where=f"tool {found.name!r}: suspend"))}
    except Exception as error:
        # A tool is the user's, and may fail in any way; what it raised is for the model to hear.
        if attempts_left and not isinstance(error, NonRetriableError):
            raise
        told = said.told_error(error)
        if isinstance(error, TimeoutError) and limit.expired():
            told["message"] = f"{found.name} did not end within {found.timeout} ms"
        return {"error": told}
    size = len(encode(outcome))
    return outcome if size <= MAX_OUTCOME else {"error": _too_large(found.name, size)}


async def _find(site: CallSite) -> Tool | str:
    """A tool of the memory or of a toolset; or what the model is told where there is none of this name."""
    name = site.call.tool_name
    await site.run.recall()
    found = await site.run.box.find(name)
    if found is not None:
        return found
    names = ", ".join(await site.run.box.all()) or "none"
    return (
        f'Tool "{name}" not found. Available tools: {names}. Call tools by their exact name only: never add prefixes, '
        "namespaces, or colons."
    )


def _too_large(name: str, size: int) -> dict[str, Json]:
    """A step could not record it, and the run would fail; the model may ask for less."""
    message = f"the result of {name} has {size} bytes; at most {MAX_OUTCOME} are allowed: ask for less, or store it"
    return {"name": "ToolResultTooLargeError", "message": message, "code": "TOOL_RESULT_TOO_LARGE"}


def _interrupted(name: str) -> dict[str, Json]:
    message = f"{name} was interrupted, and it is not known whether it took effect; it is not carried out again"
    return {"name": "ToolInterruptedError", "message": message, "code": "TOOL_INTERRUPTED"}

"""The context of a tool call: what its function is told, and what it may do besides returning.

`suspend` ends this execution and asks whoever runs the agent; the function is then called again from its start with
`resume_data`. What must not be done twice stands in `step`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NoReturn, Protocol

from perdure.agents.chunks import USER, Chunk
from perdure.model.errors import NonRetriableError, PerdureError
from perdure.model.json import Json


class ToolSuspended(BaseException):
    """Ends an execution of a tool that waits for somebody. No `Exception`: tools' own handlers must not stop it."""

    def __init__(self, payload: Json) -> None:
        self.payload = payload
        super().__init__("the tool call is suspended")


class StepsUnavailableError(NonRetriableError):
    """A tool used `ctx.step` without having declared that it has steps."""


class NestedSteps(Protocol):
    """Does something once for a tool call, and records it under the call's id."""

    def __call__(self, name: str, call: Callable[..., Json], *args: Json, **kwargs: Json) -> Awaitable[Json]: ...


class Writer:
    """Says chunks of the user's own on the run's stream, on behalf of a tool call."""

    def __init__(self, push: Callable[[Chunk], None], run_id: str, tool_call_id: str, tool_name: str) -> None:
        self._push = push
        self._run_id = run_id
        self._call = {"toolCallId": tool_call_id, "toolName": tool_name}
        self.kept: list[dict[str, Json]] = []

    def write(self, output: Json) -> None:
        """Says `output` as a `tool-output` chunk.

        >>> said = []
        >>> Writer(said.append, "run-1", "c1", "load").write({"percent": 50})
        >>> said[0].payload["output"]
        {'percent': 50}
        """
        payload = {"output": output, **self._call}
        self._push(Chunk({"type": "tool-output", "runId": self._run_id, "from": USER, "payload": payload}))

    def custom(self, kind: str, data: Json, *, id: str | None = None, transient: bool = False) -> None:
        """Says a chunk of a kind of its own, `data-<kind>`.

        It is kept in the message with the call, unless it is transient; one with the same `id` takes its place.

        >>> said = []
        >>> Writer(said.append, "run-1", "c1", "load").custom("progress", {"percent": 50})
        >>> said[0]
        {'type': 'data-progress', 'data': {'percent': 50}}
        """
        kind = kind if kind.startswith("data-") else f"data-{kind}"
        said: dict[str, Json] = {"type": kind, "data": data}
        if id is not None:
            said["id"] = id
        if transient:
            said["transient"] = True
        else:
            self.kept = [other for other in self.kept if id is None or other.get("id") != id or other["type"] != kind]
            self.kept.append(said)
        self._push(Chunk(said))


class ToolContext:
    """What a tool's function is told about its call.

    `attempt` counts from 0. `idempotency_key` names this call in the world, the same at every attempt: hand it to
    services that know such keys. `resume_data` is what a suspended call was resumed with, None before.
    """

    def __init__(
        self,
        *,
        run_id: str,
        agent_id: str,
        tool_call_id: str,
        tool_name: str,
        writer: Writer,
        thread_id: str | None = None,
        resource_id: str | None = None,
        request_context: dict[str, Json] | None = None,
        attempt: int = 0,
        resume_data: Json = None,
        steps: NestedSteps | None = None,
    ) -> None:
        self.run_id = run_id
        self.agent_id = agent_id
        self.tool_call_id = tool_call_id
        self.tool_name = tool_name
        self.writer = writer
        self.thread_id = thread_id
        self.resource_id = resource_id
        self.request_context = request_context or {}
        self.attempt = attempt
        self.resume_data = resume_data
        self._steps = steps

    @property
    def idempotency_key(self) -> str:
        """`<run>/tool:<tool call>`."""
        return f"{self.run_id}/tool:{self.tool_call_id}"

    def suspend(self, payload: Json = None) -> NoReturn:
        """Ends this execution until somebody resumes the call; `payload` says to them what is wanted.

        >>> def choose(ctx: ToolContext) -> str:
        ...     if ctx.resume_data is None:
        ...         ctx.suspend({"question": "Which colour?"})
        ...     return ctx.resume_data["colour"]
        """
        raise ToolSuspended(payload)

    def step(self, name: str, call: Callable[..., Json], *args: Json, **kwargs: Json) -> Awaitable[Json]:
        """Calls `call(*args, **kwargs)` once for this tool call, and records what it returns under `name`.

        Raises `StepsUnavailableError` where the tool was not declared with `steps=True`.

        >>> async def pay(order: str, ctx: ToolContext) -> str:
        ...     receipt = await ctx.step("charge", charge_card, order)
        ...     return await ctx.step("mail", send_receipt, receipt)
        """
        if self._steps is None:
            raise StepsUnavailableError(
                f"tool {self.tool_name!r} uses ctx.step({name!r}, ...): declare it with @tool(steps=True)"
            )
        return self._steps(name, call, *args, **kwargs)


class ToolError(PerdureError):
    """Raise it in a tool to choose the code that the model and readers are told beside the message."""

    def __init__(self, message: str, code: str | None = None) -> None:
        self.code = code
        super().__init__(message)

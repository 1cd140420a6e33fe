"""What the loop needs of whoever carries out background tasks: `BackgroundTasks`, filled in this process or durably."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

import msgspec

from perdure.agents.chunks import Chunk
from perdure.agents.storage import Task
from perdure.model.json import Json


class Work(msgspec.Struct, rename="camel"):
    """What the carrying out of a task needs, as data: the run's input without its messages, and the call.

    `message_id` is the message of the thread in which the call stands, empty where none is kept.
    """

    task_id: str
    agent_id: str
    tool_name: str
    tool_call_id: str
    args: Json
    timeout: int
    retries: int
    message_id: str
    input: dict[str, Json]
    app_id: str = ""


class BackgroundTasks(Protocol):
    """Carries out the tasks of one run."""

    async def begin(self, task: Task, work: Work) -> None:
        """Stores a task and starts it; one that is there already is not started again. Inside a step."""
        ...

    def settled(self, task_id: str, label: str, timeout: int) -> Awaitable[bool]:
        """Waits for a task, at most `timeout` ms; whether it has ended. Between steps; `label` is the step's id.

        A task that is suspended is not waited for.
        """
        ...

    async def task(self, task_id: str) -> Task | None:
        """A task as it stands. Inside a step."""
        ...

    async def outputs(self, task_id: str) -> list[Chunk]:
        """What the tool of a task has said, as `background-task-output` chunks. Inside a step."""
        ...

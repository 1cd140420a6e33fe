"""Runs as tasks: what a client waits for is durable, and survives the server that it was told of by.

The id of a task is that of its run, with a word behind it where the tool's result is more than the run's output. A run
asks for input by a step named `ask NAME` whose result is the question (`message`, and `requestedSchema` for a form),
and by waiting for the signal `mcp/RUN/NAME` under the name `NAME`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from perdure.model.ids import is_ulid
from perdure.model.json import Json
from perdure.server.mcp.asking import Ask, read, told
from perdure.server.mcp.offering import Answer, NoResourceError, NoTaskError, Task, ToolError

Shape = Callable[[str, Json], Answer]
"""The answer of a tool for a run that has ended: from its id and its record."""

_OPEN = frozenset({"WAITING", "QUEUED", "RUNNING"})
_FORM: Json = {"type": "object", "properties": {}}


def output(run_id: str, run: Json) -> Answer:
    """The output of a run as an answer; its failure is one, too."""
    value = run.get("output")
    if run["status"] == "COMPLETED":
        # Structured content is an object: what is none is in one.
        if isinstance(value, str) or value is None:
            return Answer({"result": value}, "null" if value is None else value)
        return Answer(value)
    name, message = (value.get("name"), value.get("message")) if isinstance(value, dict) else ("", value)
    return Answer(text=f"{name or 'The function failed'}: {message}", failed=True)


class RunTasks:
    """Tasks over runs; `shapes` are the answers of tools by the word behind a task's id, "" for the output alone."""

    def __init__(self, ask: Ask, shapes: Mapping[str, Shape]) -> None:
        self._ask = ask
        self._shapes = {"": output, **shapes}

    async def get(self, task_id: str) -> Task:
        """See `Tasks.get`."""
        run_id, shape = self._parse(task_id)
        run = await self._read(f"/v2/runs/{run_id}", run_id)
        status, made = run["status"], run["queuedAt"]
        if status == "COMPLETED" or (status == "FAILED" and not _is_protocol_error(run)):
            return Task(id=task_id, status="completed", created=made, updated=run["endedAt"], answer=shape(run_id, run))
        if status == "FAILED":
            told_why = str(run["output"].get("message") or "the call failed")
            return Task(id=task_id, status="failed", created=made, updated=run["endedAt"], error=told_why)
        if status in ("CANCELLED", "SKIPPED"):
            return Task(
                id=task_id, status="cancelled", created=made, updated=run.get("endedAt", made), message=status.lower()
            )
        root = (await self._read(f"/v2/runs/{run_id}/trace", run_id))["rootSpan"]
        questions = dict(_questions(root))
        times = [span[key] for span in _spans(root) for key in ("queuedAt", "startedAt", "endedAt") if span.get(key)]
        doing = ", ".join(span["name"] for span in _spans(root) if span["status"] in _OPEN and span.get("stepOp"))
        return Task(
            id=task_id,
            status="input_required" if questions else "working",
            created=made,
            updated=max([made, *times]),
            message=doing,
            inputs=questions,
        )

    async def update(self, task_id: str, responses: Mapping[str, Json]) -> None:
        """See `Tasks.update`."""
        run_id, _ = self._parse(task_id)
        task = await self.get(task_id)
        for key, response in responses.items():
            if key in task.inputs:
                body = {"signal": f"mcp/{run_id}/{key}", "data": response}
                status, answer = await self._ask("POST", "/v1/signals", {}, body)
                # Somebody else may have answered meanwhile.
                if status >= 400 and status != 404:
                    raise ToolError(told(status, answer))

    async def cancel(self, task_id: str) -> None:
        """See `Tasks.cancel`."""
        run_id, _ = self._parse(task_id)
        status, body = await self._ask("POST", f"/v1/runs/{run_id}/cancel", {}, None)
        if status == 404:
            raise NoTaskError(task_id)
        if status >= 400:
            raise ToolError(told(status, body))

    def _parse(self, task_id: str) -> tuple[str, Shape]:
        run_id, _, word = task_id.partition(".")
        if not is_ulid(run_id) or word not in self._shapes:
            raise NoTaskError(task_id)
        return run_id, self._shapes[word]

    async def _read(self, path: str, run_id: str) -> Json:
        try:
            return (await read(self._ask, path, {"includeOutput": True}))["data"]
        except NoResourceError as error:
            raise NoTaskError(run_id) from error


def _is_protocol_error(run: Json) -> bool:
    """Whether a function says that the call was wrong, and not that the work failed."""
    return isinstance(run.get("output"), dict) and run["output"].get("name") == "ProtocolError"


def _spans(root: Json) -> Iterator[Json]:
    for span in root.get("children", ()):
        yield span
        yield from _spans(span)


def _questions(root: Json) -> Iterator[tuple[str, Json]]:
    """The questions of a run that wait for their answers."""
    spans = list(root.get("children", ()))
    asked = {span["name"][4:]: span.get("output") for span in spans if span["name"].startswith("ask ")}
    for span in spans:
        question = asked.get(span["name"])
        if span.get("stepOp") == "WAIT_FOR_SIGNAL" and span["status"] in _OPEN and isinstance(question, dict):
            params = {
                "mode": "form",
                "message": str(question.get("message", "")),
                "requestedSchema": question.get("requestedSchema") or _FORM,
            }
            yield span["name"], {"method": "elicitation/create", "params": params}

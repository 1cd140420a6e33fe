"""Tools for whoever asks what is wrong: why a run failed, and which runs stand still."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from perdure.model.json import Json
from perdure.server.catalogue import schemas as s
from perdure.server.mcp.asking import Ask, read
from perdure.server.mcp.offering import Answer, Caller, NoResourceError, Tool, ToolError

_READ = {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False}
_OPEN = frozenset({"WAITING", "QUEUED", "RUNNING"})
_ERROR = s.record({}, {"name": s.TEXT, "message": s.TEXT, "stack": s.TEXT})
_STEP = s.record({"name": s.TEXT}, {"status": s.TEXT, "stepOp": s.TEXT, "attempts": s.NUMBER, "since": s.TEXT})


def tools(ask: Ask) -> list[Tool]:
    """The tools."""
    return [_explain(ask), _stuck(ask)]


def _explain(ask: Ask) -> Tool:
    async def call(given: dict[str, Json], caller: Caller) -> Answer:
        run_id = given["runId"]
        try:
            run = (await read(ask, f"/v2/runs/{run_id}", {"includeOutput": True}))["data"]
            root = (await read(ask, f"/v2/runs/{run_id}/trace", {"includeOutput": True}))["data"]["rootSpan"]
        except NoResourceError as error:
            raise ToolError(f"There is no run {run_id}: {error}") from error
        return Answer(explained(run, root))

    return Tool(
        name="explain_run_failure",
        title="Explain why a run failed",
        description="Tells why a run failed: its error, the step in which it happened and its attempts, what was done "
        "before, and how to start it once more from there.",
        input_schema=s.closed({"runId": {**s.ULID, "description": "The id of the run."}}),
        output_schema=s.record(
            {"runId": s.TEXT, "status": s.TEXT, "summary": s.TEXT},
            {"error": _ERROR, "failedStep": _STEP, "completedSteps": s.array(s.TEXT), "retry": s.OBJECT},
        ),
        hints=_READ,
        toolset="diagnose",
        call=call,
    )


def explained(run: Json, root: Json) -> dict[str, Json]:
    """Why a run failed, from its record and its trace."""
    run_id, status = run["id"], run["status"]
    shown: dict[str, Json] = {"runId": run_id, "status": status}
    steps = [span for span in root.get("children", ()) if span.get("stepId")]
    shown["completedSteps"] = [span["name"] for span in steps if span["status"] == "COMPLETED"]
    if status != "FAILED":
        return shown | {"summary": f"Run {run_id} did not fail: it is {status}."}
    error = run.get("output") if isinstance(run.get("output"), dict) else {"message": str(run.get("output"))}
    shown["error"] = {key: str(error[key]) for key in ("name", "message", "stack") if error.get(key)}
    failed = next((span for span in reversed(steps) if span["status"] == "FAILED"), None)
    arguments: dict[str, Json] = {"runId": run_id}
    where = "outside of any step"
    if failed is not None:
        attempts = len(failed.get("children", ())) or 1
        shown["failedStep"] = {"name": failed["name"], "status": "FAILED", "attempts": attempts}
        where = f"in step {failed['name']!r}, after {attempts} attempts"
        arguments["fromStep"] = {"stepId": failed["name"]}
    shown["retry"] = {"tool": "rerun", "arguments": arguments}
    name = shown["error"].get("name", "an error")
    told = f"{name}: {shown['error'].get('message', '')}".rstrip(": ")
    return shown | {"summary": f"{run['function']['name']} failed {where} with {told}."}


def _stuck(ask: Ask) -> Tool:
    async def call(given: dict[str, Json], caller: Caller) -> Answer:
        # The server's time is asked of it: ours may be another.
        now = datetime.fromisoformat((await read(ask, "/v2/health"))["metadata"]["fetchedAt"])
        seconds = given.get("olderThan", 3600)
        until = (now - timedelta(seconds=seconds)).astimezone(UTC).isoformat().replace("+00:00", "Z")
        query = {"status": ["QUEUED", "RUNNING"], "until": until, "order": "ASC", "limit": given.get("limit", 20)}
        runs = (await read(ask, "/v2/runs", query))["data"]
        return Answer({"runs": [await _standing(ask, run, now) for run in runs]})

    return Tool(
        name="list_stuck_runs",
        title="List runs that stand still",
        description="Lists runs that were queued long ago and have not ended, the oldest first, with the steps that "
        "they wait for. A sleep or a wait for an event may be meant; a step that runs for hours hardly is.",
        input_schema=s.closed(
            {},
            {
                "olderThan": {
                    "type": "integer", "minimum": 0, "default": 3600,
                    "description": "Only runs queued at least so long ago (seconds); 3600.",
                },
                "limit": {"type": "integer", "minimum": 1, "maximum": 100, "description": "At most so many; 20."},
            },
        ),
        output_schema=s.record({"runs": s.array(s.OBJECT)}),
        hints=_READ,
        toolset="diagnose",
        call=call,
    )  # fmt: skip


async def _standing(ask: Ask, run: Json, now: datetime) -> dict[str, Json]:
    root = (await read(ask, f"/v2/runs/{run['id']}/trace"))["data"]["rootSpan"]
    waits = [
        {"name": span["name"], "status": span["status"], "stepOp": span["stepOp"], "since": span["queuedAt"]}
        for span in _spans(root)
        if span["status"] in _OPEN and span.get("stepOp")
    ]
    age = now - datetime.fromisoformat(run["queuedAt"])
    return {
        "runId": run["id"],
        "functionId": run["function"]["id"],
        "appId": run["app"]["id"],
        "status": run["status"],
        "queuedAt": run["queuedAt"],
        "ageSeconds": int(age.total_seconds()),
        "waitsFor": waits,
    }


def _spans(root: Json) -> Iterator[Json]:
    for span in root.get("children", ()):
        yield span
        if not span.get("stepId"):
            yield from _spans(span)

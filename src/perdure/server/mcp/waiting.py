"""Tools that wait: invoke a function for its result, and follow runs until they end."""

from __future__ import annotations

from perdure.model.json import Json
from perdure.server.catalogue import schemas as s
from perdure.server.mcp.asking import Ask
from perdure.server.mcp.following import ENDED, start, state, until_ended
from perdure.server.mcp.offering import Answer, Caller, Tool, ToolError

WORD = "invoked"
"""The word behind the id of a task of `invoke_function_sync`."""
_MAX_WAIT = 300
_READ = {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False}
_RUN_ID: Json = {**s.ULID, "description": "The id of the run."}
_TIMEOUT: Json = {
    "type": "integer", "minimum": 1, "maximum": _MAX_WAIT, "default": 30,
    "description": f"How long to wait (seconds), at most {_MAX_WAIT}; 30.",
}  # fmt: skip
_STATE = s.record({"runId": s.TEXT, "status": s.TEXT}, {"functionName": s.TEXT, "endedAt": s.TEXT})


def tools(ask: Ask) -> list[Tool]:
    """The tools."""
    return [_status(ask), _poll(ask), _invoke(ask)]


def _status(ask: Ask) -> Tool:
    async def call(given: dict[str, Json], caller: Caller) -> Answer:
        return Answer(await state(ask, given["runId"]))

    return Tool(
        name="get_run_status",
        title="Get the status of a run",
        description="Shows where a run stands, and its output once it has ended. get_run tells more.",
        input_schema=s.closed({"runId": _RUN_ID}),
        output_schema=_STATE,
        hints=_READ,
        toolset="runs",
        call=call,
    )


def _poll(ask: Ask) -> Tool:
    async def call(given: dict[str, Json], caller: Caller) -> Answer:
        interval = given.get("pollInterval", 1000) / 1000
        states = await until_ended(ask, given["runIds"], given.get("timeout", 30), interval, caller)
        ended = sum(each["status"] in ENDED for each in states)
        return Answer({"runs": states, "ended": ended, "waiting": len(states) - ended})

    interval: Json = {
        "type": "integer", "minimum": 100, "maximum": 60_000, "default": 1000,
        "description": "How often to look (ms); 1000.",
    }  # fmt: skip
    ids = {**s.array(s.ULID), "minItems": 1, "maxItems": 50, "description": "The ids of the runs."}
    return Tool(
        name="poll_run_status",
        title="Wait for runs",
        description="Waits until all of the runs have ended, or the time is over, and shows where they stand then.",
        input_schema=s.closed({"runIds": ids}, {"timeout": _TIMEOUT, "pollInterval": interval}),
        output_schema=s.record({"runs": s.array(_STATE), "ended": s.NUMBER, "waiting": s.NUMBER}),
        hints=_READ,
        toolset="runs",
        call=call,
    )


def _invoke(ask: Ask) -> Tool:
    async def call(given: dict[str, Json], caller: Caller) -> Answer:
        event_id, run_id = await start(ask, given["functionId"], _body(given))
        if run_id is None:
            told_later = "Flow control holds it back: ask get_event_runs later."
            return Answer({"eventId": event_id, "status": "QUEUED", "message": told_later})
        (found,) = await until_ended(ask, [run_id], given.get("timeout", 30), 0.5, caller)
        found["eventId"] = event_id
        if found["status"] not in ENDED:
            return Answer({**found, "message": "It has not ended yet: ask get_run_status or poll_run_status."})
        # A function that failed is a result, too: the agent reads why.
        return Answer(found, failed=found["status"] != "COMPLETED")

    async def begin(given: dict[str, Json], caller: Caller) -> str:
        _, run_id = await start(ask, given["functionId"], _body(given))
        if run_id is None:
            raise ToolError("Flow control holds the function back: invoke it later, or send its event.")
        return f"{run_id}.{WORD}"

    function: Json = {**s.NAME, "description": "The slug of the function: its app, a hyphen, and its id."}
    return Tool(
        name="invoke_function_sync",
        title="Invoke a function and wait",
        description="Starts one function directly, and waits for its result. A run that takes longer goes on.",
        input_schema=s.closed(
            {"functionId": function},
            {
                "data": {**s.OBJECT, "description": "What the function gets as the data of its event."},
                "user": {**s.OBJECT, "description": "Who did it."},
                "timeout": _TIMEOUT,
            },
        ),
        output_schema=s.record({"eventId": s.TEXT, "status": s.TEXT}, {**_STATE["properties"], "message": s.TEXT}),
        hints={"readOnlyHint": False, "destructiveHint": False, "openWorldHint": False},
        toolset="functions",
        call=call,
        start=begin,
    )


def _body(given: dict[str, Json]) -> dict[str, Json]:
    body: dict[str, Json] = {"data": given.get("data") or {}}
    return body | {"user": given["user"]} if given.get("user") else body


def shape(run_id: str, run: Json) -> Answer:
    """What `invoke_function_sync` gives for a run that has ended."""
    shown = {"runId": run_id, "status": run["status"], "functionName": run["function"]["name"]}
    shown |= {"eventId": (run["trigger"].get("eventIds") or [""])[0]}
    shown |= {key: run[key] for key in ("output", "endedAt") if key in run}
    return Answer(shown, failed=run["status"] != "COMPLETED")

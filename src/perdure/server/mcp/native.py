"""What a server offers to agents: its tools, its runs, events and functions as resources, and two prompts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import version

import msgspec

from perdure.model.json import Json, encode
from perdure.server.mcp.agent_runs import PREFIX, AgentRuns
from perdure.server.mcp.agents import AgentTold
from perdure.server.mcp.agents import tools as agent_tools
from perdure.server.mcp.asking import Ask, read
from perdure.server.mcp.functions import function_tool
from perdure.server.mcp.offering import Caller, Content, Offering, Prompt, PromptArgument, Resource, Task, Tasks, Tool
from perdure.server.mcp.runs import RunTasks
from perdure.server.mcp.skill import own_skill
from perdure.server.mcp.tools import tools
from perdure.server.mcp.waiting import WORD, shape

_ABOUT = (
    "A perdure server: durable functions, started by events. send_event starts what an event triggers; get_event_runs "
    "tells which runs that were; get_run and get_run_trace show them. invoke_function_sync starts one and waits. "
    "When something failed, begin with explain_run_failure; when something hangs, with list_stuck_runs. Agents, where "
    "the server has some, are asked by ask_AGENT; list_suspended_runs shows which of their runs wait for a person."
)
_RESOURCES = {
    "run": ("run://{runId}", "/v2/runs/{runId}", {"includeOutput": True}, "A run, with what came of it."),
    "trace": (
        "run://{runId}/trace",
        "/v2/runs/{runId}/trace",
        {"includeOutput": True},
        "The steps of a run as a tree.",
    ),
    "event": ("event://{eventId}", "/v1/events/{eventId}", {}, "An event as it was received."),
    "function": (
        "function://{appId}/{functionId}",
        "/v2/apps/{appId}/functions/{functionId}",
        {},
        "A function: its triggers and configuration.",
    ),
}


def offering(ask: Ask, functions: Sequence[str] = (), agents: Sequence[AgentTold] = ()) -> Offering:
    """All that a server offers; `functions` are the slugs of those that are tools."""
    runs, asked = RunTasks(ask, {WORD: shape}), AgentRuns(ask)
    found = [*tools(ask), *agent_tools(asked, agents)]
    functions = sorted(functions)
    made = _told_apart(
        [*sorted(found, key=lambda tool: tool.name), *(function_tool(ask, runs, one) for one in functions)]
    )
    return Offering(
        name="perdure",
        version=version("perdure"),
        instructions=_ABOUT,
        tools=made,
        resources=[_resource(ask, name) for name in _RESOURCES],
        prompts=[_DEBUG, _TRIAGE],
        tasks=_EveryTask(runs, asked) if agents else runs,
        skills=[own_skill(made)],
        complete=_completing(ask),
    )


def _told_apart(tools: Sequence[Tool]) -> list[Tool]:
    """The tools under names of their own: ids that tools cannot have as names may have become the same."""
    found: dict[str, Tool] = {}
    for tool in tools:
        name, number = tool.name, 1
        while name in found:
            number += 1
            name = f"{tool.name[:60]}_{number}"
        found[name] = msgspec.structs.replace(tool, name=name) if number > 1 else tool
    return list(found.values())


class _EveryTask:
    """Tasks that are runs of functions, and those that are runs of agents."""

    def __init__(self, runs: Tasks, agents: Tasks) -> None:
        self._runs = runs
        self._agents = agents

    async def get(self, task_id: str) -> Task:
        return await self._of(task_id).get(task_id)

    async def update(self, task_id: str, responses: Mapping[str, Json]) -> None:
        await self._of(task_id).update(task_id, responses)

    async def cancel(self, task_id: str) -> None:
        await self._of(task_id).cancel(task_id)

    def _of(self, task_id: str) -> Tasks:
        return self._agents if task_id.startswith(PREFIX) else self._runs


def _completing(ask: Ask) -> Callable[[str, str], Awaitable[list[str]]]:
    """Gives values of arguments: ids of apps and functions, and of the newest events and runs, failed ones first."""

    async def complete(name: str, begun: str) -> list[str]:
        if name == "appId":
            found = [each["id"] for each in (await read(ask, "/v2/apps", {"limit": 100}))["data"]]
        elif name == "functionId":
            found = [each["id"] for each in (await read(ask, "/v1/functions"))["data"]]
        elif name == "eventId":
            found = [each["internal_id"] for each in (await read(ask, "/v1/events", {"limit": 100}))["data"]]
        elif name == "runId":
            runs = (await read(ask, "/v2/runs", {"limit": 100}))["data"]
            found = [each["id"] for each in sorted(runs, key=lambda run: run["status"] != "FAILED")]
        else:
            found = []
        return [each for each in found if each.startswith(begun)]

    return complete


def _resource(ask: Ask, name: str) -> Resource:
    uri, path, query, about = _RESOURCES[name]

    async def get(values: dict[str, str], caller: Caller) -> Content:
        found = await read(ask, path.format(**values), query)
        return Content("application/json", encode(found["data"]).decode())

    return Resource(uri=uri, name=name, description=about, media_type="application/json", read=get)


async def _debug(given: dict[str, str], caller: Caller) -> list[tuple[str, Json]]:
    text = (
        f"Find out what is wrong with run {given['runId']}. Call explain_run_failure for it, and get_run_trace if that "
        "is not enough. Tell what failed, in which step and attempt, and the most likely cause, with the lines of the "
        "stack that show it. Then propose a fix. Do not start the run again before I agree; rerun with fromStep would "
        "keep what was recorded before the step."
    )
    return [("user", text)]


_DEBUG = Prompt(
    name="debug_run",
    title="Debug a run",
    description="Find out why a run failed or hangs.",
    arguments=[PromptArgument("runId", "The id of the run.")],
    render=_debug,
)


async def _triage(given: dict[str, str], caller: Caller) -> list[tuple[str, Json]]:
    app = f" of app {given['appId']}" if given.get("appId") else ""
    since = given.get("since") or "in the last day"
    text = (
        f"Triage the failed runs{app} {since}. List them with list_runs (status FAILED), group them by function and "
        "error, and call explain_run_failure for one of each group. For each group tell how many there are, the cause, "
        "whether starting them again can help, and what has to be mended first. Also look at list_stuck_runs."
    )
    return [("user", text)]


_TRIAGE = Prompt(
    name="triage_failures",
    title="Triage failed runs",
    description="Group what failed by cause, and tell what to do about it.",
    arguments=[
        PromptArgument("appId", "Only runs of this app.", False),
        PromptArgument("since", "From when on, such as: since 2026-11-01.", False),
    ],
    render=_triage,
)

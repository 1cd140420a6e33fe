"""Agents as tools: `ask_<agent>` asks one, `ask_agent` any by its id, and others decide what waits for a person.

Agents that are stored come and go with every edit: they have no tools of their own.

A run that needs a person's word asks the person behind the client, if there is one who can be asked; else the tool
tells what is waited for, and which tools decide it. For a client that knows tasks a durable agent's run is one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from perdure.model.json import Json
from perdure.server.catalogue import schemas as s
from perdure.server.mcp.agent_runs import AgentRuns, Waiting
from perdure.server.mcp.offering import Answer, Caller, InputNeeded, Tool, ToolError

TOOLSET = "agents"
_READ = {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False}
_ACTS = {"readOnlyHint": False, "destructiveHint": False, "idempotentHint": False, "openWorldHint": True}
_CALL = s.record({"toolCallId": s.TEXT, "toolName": s.TEXT}, {"requiresApproval": s.FLAG, "args": s.OBJECT})
_RUN = s.record(
    {"runId": s.TEXT, "finishReason": s.TEXT, "text": s.TEXT},
    {"usage": s.OBJECT, "waitsFor": s.array(_CALL), "message": s.TEXT},
)
_AGENT_ID: Json = {**s.NAME, "description": "The id of the agent; list_agents shows them."}
_RUN_ID: Json = {**s.NAME, "description": "The id of the agent's run; list_suspended_runs shows those that wait."}
_CALL_ID: Json = {**s.NAME, "description": "Which tool call is meant; needed only if the run waits for several."}

_MESSAGE: Json = {**s.NAME, "description": "What it is asked, or told to do."}
_CONVERSATION: dict[str, Json] = {
    "threadId": {**s.NAME, "description": "The conversation to go on with, if the agent remembers."},
    "resourceId": {**s.NAME, "description": "Whose conversation it is; needed with threadId."},
}


class AgentTold(msgspec.Struct, frozen=True):
    """An agent that is offered. The runs of a `durable` one survive, and can be tasks."""

    id: str
    about: str = ""
    durable: bool = False


def offered(agents: Mapping[str, Json]) -> list[AgentTold]:
    """What a server's agents are offered as; `agents` are pairs of the agent and its app by id."""
    if not agents:
        return []
    from perdure.agents.durable import DurableAgent

    found = []
    for id, (agent, _) in agents.items():
        about = getattr(agent, "description", "")
        found.append(AgentTold(id, about if isinstance(about, str) else "", isinstance(agent, DurableAgent)))
    return sorted(found, key=lambda each: each.id)


def tools(runs: AgentRuns, agents: Sequence[AgentTold]) -> list[Tool]:
    """The tools; none where there are no agents."""
    if not agents:
        return []
    decisions = [_approve(runs), _decline(runs), _resume(runs)]
    return [*(_ask(runs, each) for each in agents), _ask_any(runs), _list(runs), _suspended(runs), *decisions]


async def _asked(runs: AgentRuns, agent: str, given: dict[str, Json], caller: Caller) -> Answer:
    """What an agent answers, or, asked once more, what its run comes to with a person's answers."""
    if isinstance(caller.state, dict) and "runId" in caller.state:
        found = await _answered(runs, agent, caller)
    else:
        found = await runs.generate(agent, given)
    return await _told(runs, agent, found, caller)


def _ask_any(runs: AgentRuns) -> Tool:
    async def call(given: dict[str, Json], caller: Caller) -> Answer:
        return await _asked(runs, given["agentId"], given, caller)

    return Tool(
        name="ask_agent",
        title="Ask an agent",
        description="Asks an agent by its id, such as one that is stored on the server, and gives its answer.",
        input_schema=s.closed({"agentId": _AGENT_ID, "message": _MESSAGE}, _CONVERSATION),
        output_schema=_RUN,
        hints=_ACTS,
        toolset=TOOLSET,
        call=call,
    )


def _ask(runs: AgentRuns, agent: AgentTold) -> Tool:
    async def call(given: dict[str, Json], caller: Caller) -> Answer:
        return await _asked(runs, agent.id, given, caller)

    async def begin(given: dict[str, Json], caller: Caller) -> str:
        return await runs.begin(agent.id, given)

    about = f" {agent.about.rstrip('.')}." if agent.about else ""
    return Tool(
        name=f"ask_{re.sub(r'[^A-Za-z0-9_-]', '_', agent.id)}"[:64],
        title=f"Ask {agent.id}",
        description=f"Asks the agent {agent.id}, and gives its answer.{about}",
        input_schema=s.closed({"message": _MESSAGE}, _CONVERSATION),
        output_schema=_RUN,
        hints=_ACTS,
        toolset=TOOLSET,
        call=call,
        start=begin if agent.durable else None,
    )


async def _answered(runs: AgentRuns, agent: str, caller: Caller) -> dict[str, Json]:
    """What a run comes to with the answers that a person gave."""
    run_id = caller.state["runId"]
    found: dict[str, Json] = {"runId": run_id, "finishReason": "suspended", "text": ""}
    for waiting in await runs.waiting(agent, run_id):
        response = caller.responses.get(waiting.call_id)
        if isinstance(response, dict):
            found = await runs.decide(agent, run_id, waiting, response) or found
    return found


async def _told(runs: AgentRuns, agent: str, found: dict[str, Json], caller: Caller) -> Answer:
    """What a run has come to. Raises `InputNeeded` if it waits for somebody who can be asked."""
    if found["finishReason"] != "suspended":
        return Answer(found, found["text"] or None)
    waiting = await runs.waiting(agent, found["runId"])
    dismissed = {
        id for id, each in caller.responses.items() if isinstance(each, dict) and each.get("action") == "cancel"
    }
    questions = {each.call_id: each.question() for each in waiting if each.call_id not in dismissed}
    if caller.can_be_asked and questions:
        raise InputNeeded(questions, {"runId": found["runId"]})
    message = (
        "It waits for a person's decision: approve_tool_call, decline_tool_call or resume_run goes on with it. "
        "Ask the user first."
    )
    return Answer({**found, "waitsFor": [each.told() for each in waiting], "message": message})


def _list(runs: AgentRuns) -> Tool:
    async def call(given: dict[str, Json], caller: Caller) -> Answer:
        return Answer({"agents": await runs.agents()})

    return Tool(
        name="list_agents",
        title="List agents",
        description="Lists the agents of the server, with what each is for and which tools it has.",
        input_schema=s.closed({}),
        output_schema=s.record({"agents": s.array(s.record({"id": s.TEXT, "name": s.TEXT}))}),
        hints=_READ,
        toolset=TOOLSET,
        call=call,
    )


def _suspended(runs: AgentRuns) -> Tool:
    async def call(given: dict[str, Json], caller: Caller) -> Answer:
        asked = [given["agentId"]] if given.get("agentId") else [each["id"] for each in await runs.agents()]
        found = [run for agent in asked for run in await runs.suspended(agent)]
        return Answer({"runs": found[: given.get("limit", 50)], "total": len(found)})

    limit: Json = {"type": "integer", "minimum": 1, "maximum": 500, "description": "At most so many runs; 50."}
    return Tool(
        name="list_suspended_runs",
        title="List runs that wait for a person",
        description="Lists runs of agents that wait for a person: to approve a tool's call, or to answer something.",
        input_schema=s.closed({}, {"agentId": _AGENT_ID, "limit": limit}),
        output_schema=s.record({"runs": s.array(s.record({"agentId": s.TEXT, "runId": s.TEXT})), "total": s.NUMBER}),
        hints=_READ,
        toolset=TOOLSET,
        call=call,
    )


def _approve(runs: AgentRuns) -> Tool:
    return _decision(
        runs,
        "approve_tool_call",
        "Approve the call of a tool",
        "Approves the call of a tool that an agent's run waits with, and gives what the run comes to.",
        {},
        lambda given: {"action": "accept", "content": {"approve": True}},
    )


def _decline(runs: AgentRuns) -> Tool:
    return _decision(
        runs,
        "decline_tool_call",
        "Decline the call of a tool",
        "Declines the call of a tool that an agent's run waits with; the agent is told, and goes on without it.",
        {"reason": {**s.NAME, "description": "Why; the agent is told."}},
        lambda given: {"action": "decline", "content": {"reason": given.get("reason")}},
    )


def _resume(runs: AgentRuns) -> Tool:
    return _decision(
        runs,
        "resume_run",
        "Answer a question of a run",
        "Gives the answer to a tool of an agent's run that waits for one, and gives what the run comes to.",
        {"resumeData": {**s.OBJECT, "description": "The answer, as the tool's resume schema has it."}},
        lambda given: {"action": "accept", "content": given.get("resumeData") or {}},
    )


def _decision(runs: AgentRuns, name: str, title: str, about: str, extra: dict[str, Json], response: Json) -> Tool:
    approval = name != "resume_run"

    async def call(given: dict[str, Json], caller: Caller) -> Answer:
        agent, run_id = given["agentId"], given["runId"]
        waiting = _chosen(await runs.waiting(agent, run_id), approval, given.get("toolCallId"))
        found = await runs.decide(agent, run_id, waiting, response(given))
        return await _told(runs, agent, found, Caller())

    return Tool(
        name=name,
        title=title,
        description=about,
        input_schema=s.closed({"agentId": _AGENT_ID, "runId": _RUN_ID}, {"toolCallId": _CALL_ID, **extra}),
        output_schema=_RUN,
        hints=_ACTS,
        toolset=TOOLSET,
        call=call,
    )


def _chosen(waiting: Sequence[Waiting], approval: bool, call_id: str | None) -> Waiting:
    """The tool call that is decided. Raises `ToolError` where it is not clear which, or there is none."""
    fitting = [each for each in waiting if each.approval == approval and call_id in (None, each.call_id)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ToolError(f"The run waits for several: name the toolCallId, of {', '.join(e.call_id for e in fitting)}.")
    what = "an approval" if approval else "an answer"
    raise ToolError(f"No such run waits for {what}; list_suspended_runs shows what waits, and for what.")

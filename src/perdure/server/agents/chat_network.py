"""A network as one part of a message that grows: its steps, who carries each out, and what came of it.

Pure. Each chunk of a network changes the part `data-network` (`data-tool-network` for one inside a tool), which has the
network's run as its id, so that user interfaces put the new one in the place of the old one. The words of the answer
are told as text, too.
"""

from __future__ import annotations

from typing import Final

from perdure.model.json import Json
from perdure.server.agents.chat_nested import AgentFold

_KINDS: Final = ("agent", "workflow", "tool")
_EVENTS: Final = ("agent-execution-event-", "workflow-execution-event-")


class _Network:
    """One network: what is drawn of it."""

    def __init__(self, name: Json) -> None:
        self.name = name
        self.steps: list[dict[str, Json]] = []
        self.agents: dict[Json, AgentFold] = {}
        self.usage: Json = None
        self.output: Json = None
        self.has_text = False

    def add(self, id: Json, name: Json, given: Json, iteration: Json, task: Json = None) -> None:
        step = {"id": id, "name": name, "status": "running", "iteration": iteration or 0, "input": given}
        self.steps.append({**step, "output": None, "task": task, "suspendPayload": None, "resumePayload": None})

    def step(self, id: Json) -> dict[str, Json]:
        return next((step for step in self.steps if step["id"] == id), {})


class NetworkParts:
    """Translates one stream of a network; `nested`: it is that of a tool."""

    def __init__(self, *, nested: bool = False) -> None:
        self._type = "data-tool-network" if nested else "data-network"
        self._nested = nested
        self._networks: dict[Json, _Network] = {}

    def start(self) -> list[dict[str, Json]]:
        """What is told first."""
        return [{"type": "start"}]

    def end(self) -> list[dict[str, Json]]:
        """What is told last."""
        ends = [{"type": "text-end", "id": run} for run, network in self._networks.items() if network.has_text]
        return [*ends, {"type": "finish"}]

    def of(self, said: dict[str, Json]) -> list[dict[str, Json]]:
        """The parts that tell of a chunk of a network."""
        kind, run, payload = str(said.get("type")), said.get("runId"), said.get("payload") or {}
        if kind.startswith("data-"):
            return [{key: said[key] for key in ("type", "data", "id") if key in said}]
        if kind == "error":
            return [{"type": "error", "errorText": str((payload.get("error") or {}).get("message") or "error")}]
        if kind.endswith(("-execution-approval", "-execution-suspended")):
            return [_question(kind, run, payload)]
        if kind == "routing-agent-start" and run not in self._networks:
            self._networks[run] = _Network(payload.get("networkId"))
        network = self._networks.get(run)
        if network is None and kind.endswith("-execution-start"):
            # A stream that goes on after a question begins with what had been begun.
            network = self._networks[run] = _Network(payload.get("networkId"))
        if network is None:
            return []
        if kind.startswith("routing-agent-text-"):
            return self._text(network, kind, run, payload)
        status = _take(network, kind, payload)
        if status is None:
            return []
        return [*self._last_words(network, kind, run, payload), self._shown(network, run, status)]

    def _text(self, network: _Network, kind: str, run: Json, payload: dict[str, Json]) -> list[dict[str, Json]]:
        network.has_text = True
        if kind.endswith("-start"):
            return [{"type": "text-start", "id": run}]
        return [{"type": "text-delta", "id": run, "delta": payload.get("text") or ""}]

    def _last_words(self, network: _Network, kind: str, run: Json, payload: dict[str, Json]) -> list[dict[str, Json]]:
        """The result as text, where nothing has been said before it."""
        told: Json = payload.get("result")
        ends = kind in ("network-execution-event-step-finish", "network-execution-event-finish")
        if not ends or network.has_text or not isinstance(told, str) or not told:
            return []
        network.has_text = True
        return [{"type": "text-start", "id": run}, {"type": "text-delta", "id": run, "delta": told}]

    def _shown(self, network: _Network, run: Json, status: str) -> dict[str, Json]:
        data = {"name": network.name, "status": status, "usage": network.usage, "output": network.output}
        # What is told is not changed by what comes after it.
        return {"type": self._type, "id": run, "data": {**data, "steps": [dict(step) for step in network.steps]}}


def _take(network: _Network, kind: str, payload: dict[str, Json]) -> str | None:
    """Takes a chunk; the status of the network after it, None where nothing has changed."""
    if kind == "routing-agent-start":
        given = payload.get("inputData") or {}
        told = {name: given.get(name) for name in ("task", "threadId", "threadResourceId")}
        network.add(payload.get("runId"), payload.get("agentId"), told, given.get("iteration"))
        network.steps[-1]["output"] = ""
        return "running"
    if kind.startswith(_EVENTS):
        return _inner(network, kind, payload)
    if kind == "routing-agent-end":
        names = {"id": "primitiveId", "type": "primitiveType", "name": "task", "reason": "selectionReason"}
        task = {name: payload.get(field) for name, field in names.items()}
        return _over(network, payload.get("runId"), payload, task)
    if kind in ("network-execution-event-step-finish", "network-execution-event-finish"):
        network.output = payload.get("result") or network.output
        network.usage = payload.get("usage") or network.usage
        return "finished"
    what, _, end = kind.partition("-execution-")
    if what not in _KINDS or end not in ("start", "end"):
        return None
    if end == "end":
        id = payload.get("toolCallId") if what == "tool" else payload.get("runId")
        return _over(network, id, payload, None)
    args = payload.get("args") or {}
    if what == "tool":
        name = args.get("toolName")
        network.add(args.get("toolCallId"), name, args.get("args"), args.get("iteration"), {"id": name})
    else:
        given = {"prompt": args.get("prompt") or ""}
        network.add(payload.get("runId"), payload.get(f"{what}Id"), given, args.get("iteration"))
    return "running"


def _over(network: _Network, id: Json, payload: dict[str, Json], task: Json) -> str | None:
    step = network.step(id)
    if not step:
        return None
    step["status"], step["output"] = "success", payload.get("result")
    if task is not None:
        step["task"] = task
    else:
        network.output = payload.get("result") or network.output
    network.usage = payload.get("usage") or network.usage
    return "running"


def _inner(network: _Network, kind: str, payload: dict[str, Json]) -> str | None:
    """A chunk of an agent that the network has chosen."""
    step = network.step(payload.get("runId"))
    if not step or not kind.startswith("agent-"):
        return None
    fold = network.agents.setdefault(payload.get("runId"), AgentFold())
    if not fold.take(payload):
        return None
    step["task"] = fold.shown()
    return "running"


def _question(kind: str, run: Json, payload: dict[str, Json]) -> dict[str, Json]:
    """A question of a network: it is answered by its run alone, for there is one at a time."""
    name = "approval" if kind.endswith("-approval") else "suspended"
    type_ = f"data-tool-call-{name}"
    kept = ("toolCallId", "toolName", "args", "suspendPayload", "resumeSchema")
    data = {"state": type_, "runId": run, **{key: payload[key] for key in kept if key in payload}}
    return {"type": type_, "id": payload.get("toolCallId"), "data": data}

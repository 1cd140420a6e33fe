"""Runs inside a run as one part that grows: a sub-agent of a network, and a function as a tool.

Pure folds over the chunks of the inner run, as users of the AI SDK draw them: `AgentFold` is what has become of the
run of an agent so far, `WorkflowParts` gives a `data-tool-workflow` part for each change of a function's steps.
"""

from __future__ import annotations

from typing import Final

from perdure.model.json import Json

_LISTS: Final = {"tool-call": "toolCalls", "tool-result": "toolResults", "source": "sources", "file": "files"}
"""The kinds of chunks that are gathered, and where."""
_CHANGING: Final = frozenset({"start", "text-delta", "reasoning-delta", "tool-error", "object", "object-result"})
_CHANGES: Final = _CHANGING | _LISTS.keys() | {"step-finish", "finish"}


class AgentFold:
    """What an agent's run has come to so far; `take` its chunks."""

    def __init__(self) -> None:
        self._id: Json = ""
        self._texts: list[str] = [""]
        self._thoughts: list[str] = []
        self._gathered: dict[str, list[Json]] = {name: [] for name in (*_LISTS.values(), "toolErrors")}
        self._steps: list[dict[str, Json]] = []
        self._ended: dict[str, Json] = {"finishReason": None, "status": "running"}
        self._object: Json = None

    def take(self, said: dict[str, Json]) -> bool:
        """Takes a chunk; whether it has changed anything."""
        kind, payload = str(said.get("type")), said.get("payload") or {}
        if kind not in _CHANGES:
            return False
        if kind == "start":
            self._id = payload.get("id")
        elif kind == "text-delta":
            self._texts[-1] += payload.get("text") or ""
        elif kind == "reasoning-delta":
            self._thoughts.append(payload.get("text") or "")
        elif kind in _LISTS:
            self._gathered[_LISTS[kind]].append(payload)
        elif kind == "tool-error":
            self._gathered["toolErrors"].append(payload)
        elif kind in ("object", "object-result"):
            self._object = said.get("object")
        else:
            self._end(kind, payload)
        return True

    def _end(self, kind: str, payload: dict[str, Json]) -> None:
        result, output = payload.get("stepResult") or {}, payload.get("output") or {}
        ended = {"finishReason": result.get("reason"), "usage": output.get("usage") or {}}
        if kind == "finish":
            self._ended = {**ended, "status": "finished"}
            return
        step = {**self._said(self._texts[-1]), **ended, "warnings": result.get("warnings") or []}
        self._steps.append({**step, "stepType": "tool-result" if self._steps else "initial"})
        self._texts.append("")
        self._gathered = {name: [] for name in self._gathered}

    def shown(self) -> dict[str, Json]:
        """The run as it is drawn."""
        return {**self._said("".join(self._texts)), **self._ended, "steps": list(self._steps)}

    def _said(self, text: str) -> dict[str, Json]:
        gathered = {name: list(found) for name, found in self._gathered.items()}
        return {"id": self._id, "object": self._object, "text": text, "reasoning": list(self._thoughts), **gathered}


class WorkflowParts:
    """Functions that run as tools: one part a run, and one for each of its steps that has ended."""

    def __init__(self) -> None:
        self._names: dict[Json, Json] = {}
        self._steps: dict[Json, dict[str, dict[str, Json]]] = {}

    def of(self, said: dict[str, Json]) -> list[dict[str, Json]]:
        """The parts that tell of a chunk of a function."""
        kind, run, payload = said.get("type"), said.get("runId"), said.get("payload") or {}
        if kind == "workflow-start":
            self._names[run], self._steps[run] = payload.get("workflowId"), {}
            return [self._whole(run, "running")]
        if run not in self._names:
            return []
        if kind == "workflow-finish":
            return [self._whole(run, payload.get("workflowStatus"), payload.get("output"), whole=True)]
        if kind not in ("workflow-step-start", "workflow-step-result", "workflow-step-suspended"):
            return []
        step = self._step(run, str(payload.get("id")), kind, payload)
        status = "suspended" if kind == "workflow-step-suspended" else "running"
        if kind == "workflow-step-start":
            return [self._whole(run, status)]
        named = {"name": self._names[run], "status": status, "stepId": payload.get("id"), "step": dict(step)}
        id = f"{run}:{payload.get('id')}"
        return [self._whole(run, status), {"type": "data-tool-workflow-step", "id": id, "data": named}]

    def _step(self, run: Json, id: str, kind: Json, payload: dict[str, Json]) -> dict[str, Json]:
        empty = {"name": id, "status": None, "input": None, "output": None}
        step = self._steps[run].setdefault(id, {**empty, "suspendPayload": None, "resumePayload": None})
        step["status"] = payload.get("status")
        if kind == "workflow-step-start":
            step["input"] = payload.get("payload")
        elif kind == "workflow-step-result":
            step["output"] = payload.get("output")
        else:
            step["suspendPayload"] = payload.get("suspendPayload")
        return step

    def _whole(self, run: Json, status: Json, output: Json = None, *, whole: bool = False) -> dict[str, Json]:
        steps = {id: {**step, "output": step["output"] if whole else None} for id, step in self._steps[run].items()}
        data = {"name": self._names[run], "status": status, "steps": steps, "output": output}
        return {"type": "data-tool-workflow", "id": run, "data": data}

"""What the loop itself says: the chunks around a model's and the tools' own.

Order of a run: `start`, then for each step `step-start`, the model's chunks, the tools' results and `step-finish`; then
`finish`. Payloads have the field names that clients of the agents protocol read.
"""

from __future__ import annotations

from perdure.agents.chunks import WORKFLOW, Chunk, chunk
from perdure.agents.messages import Usage
from perdure.agents.models.call import Answer
from perdure.agents.models.failure import without_secrets
from perdure.model.errors import StepError
from perdure.model.json import Json

APPROVAL_SCHEMA = (
    '{"type":"object","properties":{"approved":{"type":"boolean"},"reason":{"type":"string"}},"required":["approved"]}'
)
_NO_MESSAGES: dict[str, list[Json]] = {"all": [], "user": [], "nonUser": []}


def start(run_id: str, agent_id: str, message_id: str) -> Chunk:
    """The first chunk of a run."""
    return chunk("start", run_id, id=agent_id, messageId=message_id)


def step_start(run_id: str, step: int, message_id: str, now: int) -> Chunk:
    """The beginning of a model call; `stepId` is the id of the journal's step."""
    return chunk(
        "step-start", run_id, stepId=f"llm:{step}", messageId=message_id, startedAt=now, warnings=[], request={}
    )


def step_finish(
    run_id: str, message_id: str, answer: Answer | None, *, reason: str, continued: bool, text: str = ""
) -> Chunk:
    """The end of a step: after the model's answer, and after the results of the tools that it called."""
    usage = answer.usage if answer is not None else Usage()
    result: dict[str, Json] = {"reason": reason, "isContinued": continued, "messageId": message_id}
    if answer is not None and answer.warnings:
        result["warnings"] = answer.warnings
    return chunk(
        "step-finish",
        run_id,
        messageId=message_id,
        stepResult=result,
        output={"text": answer.text if answer is not None else text, "usage": told_usage(usage, answer)},
        metadata=_metadata(answer),
        messages=_NO_MESSAGES,
    )


def finish(
    run_id: str, message_id: str, *, reason: str, text: str, usage: Usage, cost: float | None, steps: int
) -> Chunk:
    """The last chunk of a run; `usage` and `cost` (USD) are totals."""
    return chunk(
        "finish",
        run_id,
        messageId=message_id,
        stepResult={"reason": reason, "isContinued": False, "totalUsage": usage.as_json()},
        output={"text": text, "usage": usage.as_json(), "stepCount": steps},
        metadata={} if cost is None else {"cost": cost},
        messages=_NO_MESSAGES,
    )


def told_usage(usage: Usage, answer: Answer | None = None) -> dict[str, Json]:
    """Usage as chunks tell it, with what the provider itself reported."""
    plain: dict[str, Json] = {**usage.as_json()}
    if answer is not None and answer.raw_usage is not None:
        plain["raw"] = answer.raw_usage
    return plain


def error(run_id: str, told: dict[str, Json]) -> Chunk:
    """A run failed."""
    return chunk("error", run_id, error=told)


def told_error(failure: BaseException) -> dict[str, Json]:
    """An error as readers may see it: name, message and code; no stack, no cause, and nothing that looks secret."""
    told: dict[str, Json] = {"name": type(failure).__name__, "message": str(failure)}
    if isinstance(failure, StepError):
        told = {"name": failure.name, "message": failure.message}
    elif isinstance(failure, KeyError) and failure.args:
        told["message"] = f"key {failure.args[0]!r} is missing"
    told["message"] = without_secrets(str(told["message"]))
    code = getattr(failure, "code", None)
    if isinstance(code, str):
        told["code"] = code
    return told


def tool_result(run_id: str, call: dict[str, Json], result: Json) -> Chunk:
    """A tool call has its result; `call` is `{toolCallId, toolName, args}`."""
    return Chunk({"type": "tool-result", "runId": run_id, "from": "AGENT", "payload": {**call, "result": result}})


def tool_error(run_id: str, call: dict[str, Json], told: dict[str, Json]) -> Chunk:
    """A tool call failed; the model is told, and the run goes on."""
    return chunk("tool-error", run_id, **call, error=told)


def denied(run_id: str, call: dict[str, Json], reason: str) -> Chunk:
    """A tool call was declined."""
    approval = {"id": call["toolCallId"], "approved": False, "reason": reason}
    return chunk("tool-output-denied", run_id, **call, approval=approval)


def workflow_start(run_id: str, key: str) -> Chunk:
    """A workflow begins; `run_id` is that of its child run."""
    return chunk("workflow-start", run_id, WORKFLOW, workflowId=key)


def workflow_finish(run_id: str, status: str, *, result: Json = None) -> Chunk:
    """A workflow has ended: `success`, with its result, or `failed`."""
    ended: dict[str, Json] = {"workflowStatus": status, "metadata": {}, "output": {"usage": told_usage(Usage())}}
    if status == "success":
        ended["finalWorkflowResult"] = result
    return Chunk({"type": "workflow-finish", "runId": run_id, "from": WORKFLOW, "payload": ended})


def _metadata(answer: Answer | None) -> dict[str, Json]:
    if answer is None:
        return {}
    plain: dict[str, Json] = {
        "id": answer.response_id,
        "modelId": answer.model,
        "modelMetadata": {"modelId": answer.model, "modelProvider": answer.provider},
        "cost": answer.cost,
    }
    return {key: value for key, value in plain.items() if value is not None}

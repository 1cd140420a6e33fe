"""What the router of a network is asked, and how its answers are read: who goes on, and whether the task is done.

Both questions are asked of the agent's own model, with a JSON Schema for the answer. Nothing here asks anything.

Invariant: a choice is one of the primitives that were offered, or `none`; anything else is `Unroutable`, and said so.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from perdure.agents.declared import AGENT_PREFIX, WORKFLOW_PREFIX, DeclaredAgent
from perdure.agents.errors import AgentError
from perdure.agents.messages import Message, TextPart
from perdure.agents.models import OutputSpec, Prompt
from perdure.model.json import InvalidJsonError, Json, decode, encode

Kind: TypeAlias = Literal["agent", "workflow", "tool", "none"]

_CHOICE: Final[dict[str, Json]] = {
    "type": "object",
    "properties": {
        "primitiveId": {"type": "string"},
        "primitiveType": {"type": "string", "enum": ["agent", "workflow", "tool", "none"]},
        "prompt": {"type": "string"},
        "selectionReason": {"type": "string"},
    },
    "required": ["primitiveId", "primitiveType", "prompt", "selectionReason"],
    "additionalProperties": False,
}
_VERDICT: Final[dict[str, Json]] = {
    "type": "object",
    "properties": {
        "isComplete": {"type": "boolean"},
        "completionReason": {"type": "string"},
        "finalResult": {"type": "string"},
    },
    "required": ["isComplete", "completionReason"],
    "additionalProperties": False,
}
_ROUTER: Final = """You route a task through a network of agents, workflows and tools. At each turn choose the one \
that brings the task forward most, and write what it is given: a text for an agent; for a workflow or a tool its \
arguments, as a JSON object in a string that fits the schema shown.

Choose only from the lists. What was done before is in the conversation as JSON with "isNetwork": do not repeat it \
unless with other arguments and for a reason. If nothing in the lists helps, or all is done, choose "none" of the \
type "none"."""
_JUDGE: Final = """Decide whether the task is complete. It is, if nothing in the network could bring it forward, or if \
the person declined what was needed. The person sees only the final result: if the last result does not answer the \
task by itself, write the answer into finalResult; if the result of an agent does, leave finalResult empty."""


class UnroutableError(AgentError):
    """The router chose something that is not there, or its answer cannot be read."""

    status = 422


class Choice(msgspec.Struct, rename="camel"):
    """What the router chose."""

    primitive_id: str
    primitive_type: Kind
    prompt: str
    selection_reason: str


class Verdict(msgspec.Struct, rename="camel"):
    """Whether the task is done; `final_result` is empty where the last result is the answer."""

    is_complete: bool
    completion_reason: str = ""
    final_result: str = ""


def route_prompt(agent: DeclaredAgent, instructions: Sequence[str], history: Sequence[Message], task: str) -> Prompt:
    """Asks who goes on. `history` is the conversation, with what was done as messages of the assistant."""
    lists = [
        _listed("Agents", {key: member.description for key, member in agent.agents.items()}),
        _listed("Workflows", {key: _about_workflow(function) for key, function in agent.workflows.items()}),
        _listed("Tools", {name: _about_tool(found) for name, found in agent.tools.items()}),
    ]
    asked = _said("user", f"The task:\n{task}\n\nWho goes on, and with what?")
    return Prompt(
        system=["\n\n".join([_ROUTER, *instructions, *filter(None, lists)])],
        messages=[*history, asked],
        output=OutputSpec(_CHOICE, "route"),
    )


def verdict_prompt(
    instructions: Sequence[str], history: Sequence[Message], task: str, choice: Choice, result: Json
) -> Prompt:
    """Asks whether the task is done, after `choice` came to `result`."""
    told = result if isinstance(result, str) else encode(result).decode()
    who = "Nothing in the network helps any further." if choice.primitive_type == "none" else ""
    done = who or f"The {choice.primitive_type} {choice.primitive_id} came to this result:\n{told}"
    return Prompt(
        system=["\n\n".join([_JUDGE, *instructions])],
        messages=[*history, _said("user", f"The task:\n{task}\n\n{done}\n\nIs it complete?")],
        output=OutputSpec(_VERDICT, "verdict"),
    )


def object_prompt(schema: dict[str, Json], task: str, result: str) -> Prompt:
    """Asks for the result as an object."""
    return Prompt(
        system=["Give the result of the task as an object that fits the schema, and add nothing to it."],
        messages=[_said("user", f"The task:\n{task}\n\nThe result:\n{result}")],
        output=OutputSpec(schema),
    )


def read_choice(agent: DeclaredAgent, text: str) -> Choice:
    """The router's answer. Raises `UnroutableError`."""
    choice: Choice = _read(text, Choice)
    there: dict[str, list[str]] = {
        "agent": list(agent.agents),
        "workflow": list(agent.workflows),
        "tool": list(agent.tools),
        "none": [],
    }
    known = there[choice.primitive_type]
    if choice.primitive_type != "none" and choice.primitive_id not in known:
        raise UnroutableError(
            f"the router chose the {choice.primitive_type} {choice.primitive_id!r}, which is not in the network; "
            f"there are: {', '.join(known) or 'none'}"
        )
    return choice


def read_verdict(text: str) -> Verdict:
    """The answer to whether the task is done. Raises `UnroutableError`."""
    verdict: Verdict = _read(text, Verdict)
    return verdict


def tool_call(choice: Choice) -> tuple[str, Json]:
    """The tool call that a choice amounts to: the name among the agent's tools, and the arguments.

    Raises `UnroutableError` where arguments are no JSON object.
    """
    if choice.primitive_type == "agent":
        return AGENT_PREFIX + choice.primitive_id, {"prompt": choice.prompt}
    try:
        args = decode(choice.prompt) if choice.prompt.strip() else {}
    except InvalidJsonError as error:
        raise UnroutableError(f"the arguments for {choice.primitive_id} are no JSON: {error}") from error
    if not isinstance(args, dict):
        raise UnroutableError(f"the arguments for {choice.primitive_id} must be a JSON object, got {choice.prompt!r}")
    if choice.primitive_type == "workflow":
        return WORKFLOW_PREFIX + choice.primitive_id, {"inputData": args}
    return choice.primitive_id, args


def done_message(id: str, choice: Choice, result: Json, at: int) -> Message:
    """What was done, as the router reads it at its next turn and the thread keeps it."""
    told = {
        "isNetwork": True,
        "selectionReason": choice.selection_reason,
        "primitiveType": choice.primitive_type,
        "primitiveId": choice.primitive_id,
        "input": choice.prompt,
        "finalResult": result,
    }
    return Message(id, "assistant", [TextPart(encode(told).decode())], at, metadata={"mode": "network"})


def task_of(messages: Sequence[Message]) -> str:
    """The task: the last thing that the user said."""
    return next((message.text for message in reversed(messages) if message.role == "user"), "")


def _read(text: str, kind: type[Choice] | type[Verdict]) -> Json:
    try:
        return msgspec.convert(decode(text), kind)
    except (InvalidJsonError, msgspec.ValidationError) as error:
        raise UnroutableError(f"the router's answer cannot be read: {error}") from error


def _listed(title: str, entries: dict[str, str]) -> str:
    if not entries:
        return ""
    lines = [f"- {name}: {about}" if about else f"- {name}" for name, about in entries.items()]
    return "\n".join([f"{title}:", *lines])


def _about_workflow(function: Json) -> str:
    return inspect.getdoc(function.handler) or function.config.name


def _about_tool(found: Json) -> str:
    return f"{found.description} Arguments: {encode(found.input_schema).decode()}"


def _said(role: Literal["user"], text: str) -> Message:
    return Message("", role, [TextPart(text)], 0)

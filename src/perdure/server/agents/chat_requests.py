"""What a chat of the AI SDK asks: the messages to answer, answers to questions, and in which format it reads.

A transport sends the whole conversation each time. An answer to a question comes as `resumeData` with a `runId`, or, in
the newer format, as a part of the last message whose `approval.id` is `<run>::<call>`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from starlette.requests import Request

from perdure.model.json import Json
from perdure.server.agents.chat_parts import FORMATS, Format
from perdure.server.agents.errors import InvalidRequest
from perdure.server.bodies import header

_TRIGGERS: Final = ("submit-message", "regenerate-message", "resume-stream")
_FORMAT: Final = b"x-ai-sdk-format"
_APART: Final = "::"


class Answer(msgspec.Struct):
    """What somebody has answered; without a call the run has one open question."""

    run_id: str
    data: Json
    call: str | None = None


class Chat(msgspec.Struct):
    """A request of a chat. `message_id` is that of the message that goes on, if one does."""

    id: str | None
    messages: list[Json]
    answers: list[Answer]
    message_id: str | None
    resumed: bool


def chat_of(body: dict[str, Json], format: Format) -> Chat:
    """What a body asks. Raises `InvalidRequest`."""
    messages: Json = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
        raise InvalidRequest("messages", "must be an array of messages")
    trigger: Json = body.get("trigger")
    if trigger not in (None, *_TRIGGERS):
        raise InvalidRequest("trigger", f"must be one of {', '.join(_TRIGGERS)}")
    last: dict[str, Json] = messages[-1] if messages else {}
    goes_on = last.get("role") == "assistant"
    id = last.get("id") if goes_on and isinstance(last.get("id"), str) else None
    chat = body.get("id") if isinstance(body.get("id"), str) else None
    again = trigger == "regenerate-message"
    if body.get("resumeData") is not None:
        run = body.get("runId")
        if not isinstance(run, str) or not run:
            raise InvalidRequest("runId", "runId is required when resumeData is provided")
        call = body.get("toolCallId") if isinstance(body.get("toolCallId"), str) else None
        return Chat(chat, [], [Answer(run, body["resumeData"], call)], id, True)
    answers = [] if again or not goes_on else _approvals(messages)
    if answers:
        return Chat(chat, [], answers, id, format == "v5")
    return Chat(chat, messages[:-1] if again and goes_on else messages, [], None if again else id, False)


def _approvals(messages: list[Json]) -> list[Answer]:
    """What parts of messages say about approvals, the last one of each call."""
    found: dict[tuple[str, str], Answer] = {}
    parts: Iterable[Json] = (part for each in messages if each.get("role") == "assistant" for part in _parts(each))
    for part in parts:
        approval: Json = part.get("approval") if isinstance(part, dict) else None
        if not isinstance(approval, dict) or part.get("state") != "approval-responded":
            continue
        run, apart, call = str(approval.get("id")).rpartition(_APART)
        if not apart or not run or call != part.get("toolCallId"):
            continue
        data: dict[str, Json] = {"approved": approval.get("approved") is True}
        if isinstance(approval.get("reason"), str):
            data["reason"] = approval["reason"]
        found[run, call] = Answer(run, data, call)
    return list(found.values())


def _parts(message: dict[str, Json]) -> list[Json]:
    parts: Json = message.get("parts")
    return parts if isinstance(parts, list) else []


def format_of(request: Request) -> Format:
    """The format that is asked for by `?format=`, or by a header, which transports send with every request.

    Nothing else tells the clients apart; the older format is one that all of them read.
    """
    asked = request.query_params.get("format") or header(request.scope, _FORMAT) or "v5"
    if asked not in FORMATS:
        raise InvalidRequest("format", f"must be one of {', '.join(FORMATS)}", "query parameters")
    return "v6" if asked == "v6" else "v5"


def wanted(request: Request, body: dict[str, Json], name: str) -> bool:
    """Whether a request wants something more, in its query or in its body."""
    return request.query_params.get(name) == "true" or body.get(name) is True

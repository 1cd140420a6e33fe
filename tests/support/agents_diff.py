"""What two answers of servers of agents differ in, when ids, times, and what a model is called do not count.

`normal` puts such values aside, and joins the pieces in which a text came; `differences` names the places that are
left.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from perdure.model.json import InvalidJsonError, Json, decode

ASIDE: Final = "*"
_IDS: Final = (
    "id",
    "runId",
    "messageId",
    "taskId",
    "toolCallId",
    "subAgentThreadId",
    "subAgentResourceId",
    "approvalId",
)
_TIMES: Final = (
    *("createdAt", "updatedAt", "acceptedAt", "startedAt", "endedAt", "suspendedAt", "completedAt", "timestamp"),
    *("clonedAt", "duration"),
)
_NAMED: Final = ("modelId", "modelProvider", "provider", "model", "modelVersion", "stack", "description")
_ASIDE: Final = frozenset({*_IDS, *_TIMES, *_NAMED})
_CALL: Final = re.compile(r"call_\d+")
_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22,}|[0-9A-HJKMNP-TV-Z]{26}|call_\d+")
_SLOW: Final = re.compile(r"(w\d+ ?)+")
_PIECES: Final = {"text-delta": "text", "reasoning-delta": "text", "tool-call-delta": "argsTextDelta"}


def normal(value: Json, key: str = "") -> Json:
    """A value without what differs from run to run."""
    if key in _ASIDE and isinstance(value, str | int | float):
        return ASIDE
    if isinstance(value, dict):
        return {_CALL.sub("call", name): normal(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [normal(each) for each in (_joined(value) if _is_stream(value) else value)]
    if isinstance(value, str) and value.startswith(("{", "[")):
        try:
            return normal(decode(value))
        except InvalidJsonError:
            return value
    if isinstance(value, str):
        # How much of a slow answer was heard depends on the time.
        return ASIDE if _SLOW.fullmatch(value) else _ID.sub(ASIDE, value)
    return value


def brief(value: Json) -> Json:
    """What of a normal value is compared: of what tells a whole conversation again, the names and the essence."""
    if isinstance(value, list):
        return [brief(each) for each in value]
    if not isinstance(value, dict):
        return value
    kind, payload = value.get("type"), value.get("payload")
    if kind in ("step-finish", "finish") and isinstance(payload, dict):
        output = payload.get("output") or {}
        told = {name: output[name] for name in ("text", "toolCalls") if name in output}
        told |= {"names": " ".join(sorted(payload)), "stepResult": payload.get("stepResult")}
        return _chunk({**value, "payload": {**told, "usage": _usage(output.get("usage"))}})
    if isinstance(kind, str) and "runId" in value:
        return _chunk({name: brief(each) for name, each in value.items()})
    if "finishReason" in value and "steps" in value:
        told = {name: brief(each) for name, each in value.items()}
        used = {name: _usage(value.get(name)) for name in ("usage", "totalUsage")}
        return {**told, **used, "steps": [_step(each) for each in value["steps"]], **_conversation(value)}
    return {name: brief(each) for name, each in value.items()}


def _chunk(value: dict[str, Json]) -> list[Json]:
    """A chunk in short: its kind, what it says, and what else is in it."""
    beside = {name: each for name, each in value.items() if name not in ("type", "payload", "runId")}
    if beside.get("from") == "AGENT":
        del beside["from"]
    return [value["type"], value.get("payload"), *([beside] if beside else [])]


def _usage(usage: Json) -> str:
    counted: dict[str, Json] = usage if isinstance(usage, dict) else {}
    return " ".join(name if isinstance(count, dict) else f"{name}={count}" for name, count in counted.items())


def _step(step: dict[str, Json]) -> dict[str, Json]:
    kept = {name: brief(step.get(name)) for name in ("stepType", "text", "finishReason", "toolCalls", "toolResults")}
    return {
        **kept,
        "usage": _usage(step.get("usage")),
        "names": " ".join(sorted(step)),
        "content": [each.get("type") for each in step.get("content") or []],
    }


def _conversation(result: dict[str, Json]) -> dict[str, Json]:
    """The messages of a result: who speaks, and of what kinds the parts are."""
    response = result.get("response") or {}
    told: dict[str, Json] = {"names": " ".join(sorted(response))}
    told |= {name: list(map(_parts, response[name])) for name in ("uiMessages", "dbMessages") if name in response}
    return {
        "response": told,
        "request": ASIDE,
        "messages": list(map(_parts, result.get("messages") or [])),
        "rememberedMessages": list(map(_parts, result.get("rememberedMessages") or [])),
    }


def _parts(message: dict[str, Json]) -> str:
    content: Json = message.get("content")
    parts: Json = message.get("parts") or (content.get("parts") if isinstance(content, dict) else None) or []
    return " ".join([str(message.get("role")), *(str(part.get("type")) for part in parts)])


def differences(expected: Json, found: Json, where: str = "") -> Iterator[str]:
    """The places where what was found is not what was expected, both of them normal."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in expected.keys() | found.keys():
            place = f"{where}.{key}" if where else key
            if key not in found:
                yield f"{place}: missing, expected {_short(expected[key])}"
            elif key not in expected:
                yield f"{place}: unexpected {_short(found[key])}"
            else:
                yield from differences(expected[key], found[key], place)
    elif isinstance(expected, list) and isinstance(found, list):
        if _is_stream(expected) and [each.get("type") for each in expected] != [
            each.get("type") if isinstance(each, dict) else None for each in found
        ]:
            yield f"{where}: expected {_kinds(expected)}, found {_kinds(found)}"
            return
        if len(expected) != len(found):
            yield f"{where}: expected {len(expected)} items, found {len(found)}"
            return
        for index, pair in enumerate(zip(expected, found, strict=True)):
            named = f"{where}[{index}]"
            yield from differences(*pair, named)
    elif expected != found:
        yield f"{where}: expected {_short(expected)}, found {_short(found)}"


def _is_stream(value: list[Json]) -> bool:
    return bool(value) and all(isinstance(each, dict) and isinstance(each.get("type"), str) for each in value)


def _joined(chunks: list[Json]) -> list[Json]:
    """The chunks with the pieces of one text in one."""
    found: list[Json] = []
    for said in chunks:
        piece = _PIECES.get(said["type"])
        before = found[-1] if found else {}
        if piece is not None and before.get("type") == said["type"] and piece in (said.get("payload") or {}):
            found[-1] = {
                **before,
                "payload": {**said["payload"], piece: before["payload"][piece] + said["payload"][piece]},
            }
        else:
            found.append(said)
    return found


def _kinds(chunks: list[Json]) -> str:
    return " ".join(str(each.get("type")) for each in chunks if isinstance(each, dict))


def _short(value: Json) -> str:
    shown = repr(value)
    return shown if len(shown) < 160 else shown[:160] + "..."

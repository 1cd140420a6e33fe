"""JSON schemas of what the APIs take and answer. `COMPONENTS` are those that an OpenAPI document refers to by name.

Answers may gain members: a reader must ignore those it does not know, so no schema of an answer closes an object.
"""

from __future__ import annotations

from perdure.model.json import Json

ANY: Json = {}
TEXT: Json = {"type": "string"}
NAME: Json = {"type": "string", "minLength": 1}
FLAG: Json = {"type": "boolean"}
NUMBER: Json = {"type": "integer"}
OBJECT: Json = {"type": "object"}
TIME: Json = {"type": "string", "format": "date-time"}
MAYBE_TIME: Json = {"type": ["string", "null"], "format": "date-time"}
MAYBE_TEXT: Json = {"type": ["string", "null"]}
MAYBE_OBJECT: Json = {"type": ["object", "null"]}
MILLIS: Json = {"type": "string", "pattern": "^[0-9]{1,18}$", "description": "Milliseconds, as text."}
ULID: Json = {"type": "string", "pattern": "^[0-7][0-9A-HJKMNP-TV-Z]{25}$"}
UUID: Json = {"type": "string", "format": "uuid"}


def record(members: dict[str, Json], optional: dict[str, Json] | None = None) -> Json:
    """An object with these members, and perhaps those."""
    return {"type": "object", "properties": {**members, **(optional or {})}, "required": list(members)}


def closed(members: dict[str, Json], optional: dict[str, Json] | None = None) -> Json:
    """The same without any other member: what a request may have."""
    return record(members, optional) | {"additionalProperties": False}


def array(items: Json) -> Json:
    return {"type": "array", "items": items}


def word(*values: str) -> Json:
    return {"type": "string", "enum": list(values)}


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def v1_answer(data: Json) -> Json:
    """A v1 answer."""
    return record({"data": data, "metadata": record({"fetched_at": TIME})}, {"page": ref("Page")})


def v2_answer(data: Json) -> Json:
    """A v2 answer."""
    return record({"data": data, "metadata": record({"fetchedAt": TIME})})


def v2_list(items: Json) -> Json:
    """One page of a v2 list."""
    return record({"data": array(items), "metadata": record({"fetchedAt": TIME}), "page": ref("Page")})


RUN_STATUSES = ("QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "SKIPPED")
ENDED_STATUSES = RUN_STATUSES[2:]
_INTERVAL: dict[str, Json] = {"startedAt": TIME, "endedAt": TIME, "durationMs": MILLIS}
_METADATA = record({"scope": TEXT, "kind": TEXT, "values": OBJECT, "updatedAt": TIME})
_TRIGGER = record({"type": word("EVENT", "CRON"), "value": TEXT}, {"if": TEXT})
_EVENT_FIELDS: dict[str, Json] = {
    "data": {**MAYBE_OBJECT, "description": "What happened."},
    "user": {**MAYBE_OBJECT, "description": "Who did it."},
    "id": {"type": ["string", "null"], "description": "Makes the event idempotent for 24 hours."},
    "v": {"type": ["string", "null"], "description": "The version of the event's form."},
}

COMPONENTS: dict[str, Json] = {
    "Page": record({}, {"limit": NUMBER, "hasMore": FLAG, "cursor": TEXT}),
    "Error": record({"error": TEXT, "data": ANY, "status": NUMBER}),
    "Errors": record({"errors": array(record({"code": TEXT, "message": TEXT}))}),
    "AgentsError": record({"error": TEXT}, {"issues": array(record({"field": TEXT, "message": TEXT}))}),
    "EventsError": record({"ids": array(TEXT), "status": NUMBER, "error": TEXT}),
    "EventInput": record({"name": NAME}, {**_EVENT_FIELDS, "ts": {"type": ["integer", "null"]}}),
    "EventV2Input": closed(
        {"name": {**NAME, "description": "The name of the event."}},
        {**_EVENT_FIELDS, "ts": {"type": ["string", "integer", "null"], "description": "Milliseconds, as text."}},
    ),
    "Event": record(
        {
            "internal_id": ULID, "account_id": UUID, "environment_id": UUID, "source": TEXT, "source_id": ANY,
            "received_at": TIME, "id": TEXT, "name": TEXT, "data": OBJECT, "ts": NUMBER,
        },
        {"user": MAYBE_OBJECT, "v": MAYBE_TEXT, "meta": ANY},
    ),
    "RunV1": record(
        {
            "run_id": ULID, "run_started_at": TIME, "function_id": UUID, "function_version": NUMBER,
            "environment_id": UUID, "event_id": ULID, "ended_at": MAYBE_TIME, "output": ANY,
            "status": word("Scheduled", "Running", "Completed", "Failed", "Cancelled", "Skipped"),
        },
        {"batch_id": ULID, "original_run_id": ULID, "cron": TEXT},
    ),
    "Job": record(
        {"JobID": TEXT, "at": TIME, "position": NUMBER, "kind": TEXT, "attempt": NUMBER, "Raw": OBJECT}
    ),
    "FunctionV1": record(
        {
            "internal_id": UUID, "env_id": UUID, "app_id": UUID, "id": TEXT, "name": TEXT, "config": OBJECT,
            "created_at": TIME, "archived_at": TIME,
        },
        {"paused_at": TIME},
    ),
    "Cancellation": record(
        {
            "id": ULID, "environment_id": UUID, "function_id": TEXT, "function_internal_id": UUID,
            "started_after": MAYBE_TIME, "started_before": TIME, "if": MAYBE_TEXT, "created_at": TIME,
            "cancelled": NUMBER,
        }
    ),
    "Health": record(
        {
            "perdure": TEXT, "python": TEXT, "runs": OBJECT, "jobs": OBJECT, "functions": NUMBER,
            "orphans": array(OBJECT), "leaked_slots": array(OBJECT), "unregistered": OBJECT, "paused": array(TEXT),
            "agents": OBJECT, "cluster": OBJECT,
        }
    ),
    "Run": record(
        {
            "id": ULID, "status": word(*RUN_STATUSES), "function": record({"id": TEXT, "name": TEXT}),
            "app": record({"id": TEXT}), "queuedAt": TIME,
            "trigger": record({"eventIds": array(ULID)}, {"batchId": ULID, "isBatch": FLAG, "cron": TEXT}),
        },
        {**_INTERVAL, "output": ANY},
    ),
    "Span": record(
        {"id": TEXT, "name": TEXT, "status": word("WAITING", *RUN_STATUSES), "queuedAt": TIME},
        {
            **_INTERVAL, "stepOp": TEXT, "stepId": TEXT, "input": ANY, "output": ANY, "metadata": array(_METADATA),
            "children": array(ref("Span")),
        },
    ),
    "Step": record(
        {
            "id": TEXT, "name": TEXT, "op": TEXT, "status": word("WAITING", "RETRYING", *RUN_STATUSES),
            "attempt": NUMBER, "bytes": NUMBER, "attempts": array(OBJECT), "queuedAt": TIME,
        },
        {
            **_INTERVAL, "dueAt": TIME, "waitsFor": TEXT, "options": OBJECT, "output": ANY, "error": ANY,
            "invokedRunId": ULID,
        },
    ),
    "Failure": record(
        {
            "function": record({"id": TEXT, "name": TEXT}), "app": record({"id": TEXT}), "count": NUMBER,
            "error": record({"name": TEXT, "message": TEXT}), "firstAt": TIME, "lastAt": TIME,
            "runIds": array(ULID),
        }
    ),
    "FlowKey": record(
        {
            "key": TEXT, "kind": word("CONCURRENCY", "THROTTLE", "PAUSED", "APP"), "waiting": NUMBER,
            "holders": array(record({"runId": ULID, "slug": TEXT, "since": TIME})),
            "first": array(record({"runId": ULID, "since": TIME})),
        },
        {"limit": NUMBER},
    ),
    "Activity": record({"from": TIME, "widthMs": NUMBER, "buckets": array(OBJECT)}),
    "App": record(
        {"id": TEXT, "functionCount": NUMBER, "createdAt": TIME, "latestSync": OBJECT}, {"name": TEXT, "method": TEXT}
    ),
    "Function": record(
        {
            "id": TEXT, "slug": TEXT, "name": TEXT, "app": record({"id": TEXT}), "triggers": array(_TRIGGER),
            "configuration": OBJECT,
        },
        {"pausedAt": TIME},
    ),
    "FunctionState": record({"id": TEXT, "slug": TEXT, "paused": FLAG}),
    "Replay": record({"id": TEXT, "runCount": NUMBER, "skippedCount": NUMBER, "createdAt": TIME, "endedAt": TIME}),
    "Score": record({"name": NAME, "value": {"type": ["number", "boolean"]}}, {"stepId": NAME}),
}  # fmt: skip

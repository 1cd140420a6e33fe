"""What SDKs call besides the APIs (parts A, B and E of the protocol). Other modules serve it; here it is described."""

from __future__ import annotations

from perdure.model.json import Json
from perdure.server.catalogue import schemas as s
from perdure.server.catalogue.operation import Body, Failure, Operation, Parameter

_TOO_LARGE = Failure(413, "", "The request is over a limit.")
_EVENT_DATA: dict[str, Json] = {name: s.ANY for name in ("user", "id", "ts", "v", "name")}

PROTOCOL: tuple[Operation, ...] = (
    Operation(
        id="PostEvents", method="POST", path="/e/{key}", tag="Events",
        summary="Send events", about="Takes one event, or several; all or none are stored.",
        parameters=(
            Parameter("key", s.NAME, "The event key; a server without keys takes any.", "path", True),
            Parameter("x-inngest-event-id-seed", s.TEXT, "Makes the ids of the events: ms, comma, 10 bytes.", "header"),
        ),
        body=Body({"anyOf": [s.ref("EventInput"), s.array(s.ref("EventInput"))]}),
        answer=s.record({"ids": s.array(s.TEXT), "status": s.NUMBER}),
        failures=(
            Failure(400, "", "An event is malformed; the error names it and its field."),
            Failure(401, "", "There is no key in the path, or the server does not know it."),
            Failure(404, "", "The path goes on behind the key."),
            _TOO_LARGE,
        ),
    ),
    Operation(
        id="InvokeBySlug", method="POST", path="/invoke/{slug}", tag="Functions",
        summary="Invoke a function by its slug", about="Starts one function with the data of the body.",
        parameters=(Parameter("slug", s.NAME, "The function's slug.", "path", True),),
        body=Body(s.record({}, {"data": s.MAYBE_OBJECT, **_EVENT_DATA}), required=False),
        answer=s.record({"id": s.ULID, "status": s.NUMBER}),
        failures=(
            Failure(400, "", "The data is malformed."), Failure(404, "", "There is no such function."), _TOO_LARGE,
            Failure(422, "", "Flow control, or the function's pause, lets no run start."),
        ),
    ),
    Operation(
        id="GetHealth", method="GET", path="/health", tag="Server", read_only=True,
        summary="Check health", about="Tells that the server answers; it asks for no key.",
        answer=s.record({"status": s.NUMBER, "message": s.TEXT}),
    ),
)  # fmt: skip
"""The operations of SDKs."""

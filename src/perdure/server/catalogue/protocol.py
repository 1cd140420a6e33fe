"""What SDKs and their tools call besides the APIs (parts A, B and E of the protocol), as far as it has JSON bodies.

Other modules serve it; here it is described.
"""

from __future__ import annotations

from perdure.model.json import Json
from perdure.model.roles import Role
from perdure.server.catalogue import schemas as s
from perdure.server.catalogue.operation import Body, Failure, Operation, Parameter

_INVALID = Failure(400, "", "A parameter or the body is malformed; the error says where.")
_TOO_LARGE = Failure(413, "", "The request is over a limit.")
_RUN = Parameter("id", s.ULID, "The id of the run.", "path", True)
_GONE = Failure(410, "", "There is no such run, or it has ended.")
_EVENT_DATA: dict[str, Json] = {name: s.ANY for name in ("user", "id", "ts", "v", "name")}
_REGISTRATION = s.record(
    {"url": {"type": "string", "format": "uri"}, "appName": s.NAME, "functions": s.array(s.OBJECT)},
    {"sdk": s.TEXT, "framework": s.TEXT, "v": s.TEXT, "deployType": s.TEXT},
)
_CHECKPOINT = s.record(
    {"steps": s.array(s.OBJECT)},
    {"run_id": s.TEXT, "fn_id": s.TEXT, "qi_id": s.TEXT, "request_id": s.TEXT, "generation_id": s.NUMBER},
)
_REQUEST = s.record(
    {
        "domain": {"type": "string", "pattern": "^https?://[a-z0-9.-]+(:[0-9]{1,5})?$"},
        "method": s.word("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
        "path": s.NAME,
    },
    {name: s.TEXT for name in ("query_params", "body", "body_encoding", "content_type", "ip", "fn")},
)
_NEW_RUN = s.record(
    {"run_id": s.ULID, "event": s.record({"data": _REQUEST}, {"name": s.TEXT}), "steps": s.array(s.OBJECT)},
    {"retries": s.NUMBER, "request_version": s.NUMBER, "ts": s.NUMBER},
)
_BEGUN = s.record({"fn_id": s.UUID, "app_id": s.UUID, "run_id": s.ULID, "token": s.TEXT, "realtime_token": s.TEXT})
_PAGE = Failure(403, "", "The request comes from a web page of elsewhere, and the server has no keys.")
_LIMIT = Failure(413, "", "The body is too large, or it breaks a limit of runs, and the run has failed.")
_BUSY = Failure(503, "", "Send the same report again: the server has just started, or its store cannot answer.")
_ERRORS = s.record({"errors": s.array(s.record({"message": s.TEXT}))}, {"data": s.ANY})
_TOPIC = s.record({"channel": s.NAME, "name": s.NAME}, {"kind": s.TEXT})
_WORKER = s.record({"id": s.TEXT, "gateway_id": s.TEXT, "instance_id": s.TEXT, "status": s.NUMBER})
_ENVIRONMENT = Parameter("environment", s.NAME, "Any name: a server has one environment.", "path", True)

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
            Failure(
                401, "", "There is no key in the path, or the server does not know it.",
                s.record({"error": s.TEXT, "status": s.NUMBER}),
            ),
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
    Operation(
        id="GetLiveness", method="GET", path="/health/live", tag="Server", read_only=True,
        summary="Check that the process lives", about="Tells that the server answers; it asks for no key.",
        answer=s.record({"status": s.NUMBER, "message": s.TEXT}),
    ),
    Operation(
        id="GetReadiness", method="GET", path="/health/ready", tag="Server", read_only=True,
        summary="Check that the server takes requests",
        about="Tells that the store answers and that the server is not about to stop; it asks for no key.",
        answer=s.record({"status": s.NUMBER, "message": s.TEXT}),
        failures=(Failure(503, "", "The store does not answer, or the server is about to stop."),),
    ),
    Operation(
        id="RegisterApp", method="POST", path="/fn/register", asks=Role.ADMIN, tag="Apps", idempotent=True,
        summary="Register an app", about="An SDK registers the functions of its app, and where to call them.",
        parameters=(Parameter("x-inngest-expected-server-kind", s.TEXT, "dev or cloud.", "header"),),
        body=Body(_REGISTRATION),
        answer=s.record({"ok": s.FLAG, "modified": s.FLAG, "app_id": s.UUID, "sync_id": s.TEXT}),
        failures=(
            Failure(
                400, "", "A function is invalid, or the app is set up for a server of the other kind.",
                s.record({"error": s.TEXT}, {"details": s.array(s.TEXT)}),
            ),
            _TOO_LARGE,
        ),
    ),
    Operation(
        id="RemoveApp", method="DELETE", path="/fn/remove", asks=Role.ADMIN, tag="Apps", destructive=True,
        idempotent=True,
        summary="Remove an app", about="Archives the functions of an app.",
        parameters=(Parameter("url", s.NAME, "The URL or the id of the app.", required=True),),
        answer=s.record({"ok": s.FLAG}), failures=(_INVALID, Failure(404, "", "There is no such app.")),
    ),
    Operation(
        id="GetDev", method="GET", path="/dev", tag="Server", read_only=True,
        summary="Get what SDKs look for", about="Tells what the server is, and the functions in force.",
        answer=s.record({"version": s.TEXT, "authed": s.FLAG, "startOpts": s.OBJECT, "functions": s.array(s.OBJECT)}),
    ),
    Operation(
        id="V0GetRunActions", method="GET", path="/v0/runs/{id}/actions", tag="Apps", read_only=True,
        summary="Get the state of a run", about="What the steps of a run gave, for apps whose call had no room.",
        parameters=(_RUN,), answer=s.OBJECT, failures=(_INVALID, Failure(404, "", "The path names no run."), _GONE),
    ),
    Operation(
        id="V0GetRunBatch", method="GET", path="/v0/runs/{id}/batch", tag="Apps", read_only=True,
        summary="Get the events of a run", about="The events of a run, for apps whose call had no room.",
        parameters=(_RUN,), answer=s.array(s.OBJECT),
        failures=(_INVALID, Failure(404, "", "The path names no run."), _GONE),
    ),
    Operation(
        id="V0CancelRun", method="DELETE", path="/v0/runs/{id}", tag="Runs", destructive=True, idempotent=True,
        summary="Cancel a run", about="Cancels a run; harmless when it has ended.",
        parameters=(_RUN,), answer=None, status=204, failures=(_INVALID, Failure(404, "", "There is no such run.")),
    ),
    Operation(
        id="CheckpointRun", method="POST", path="/v1/checkpoint/{id}/async", asks=Role.ADMIN, tag="Apps",
        idempotent=True,
        summary="Checkpoint a run", about="An app records steps that it has finished, while it works on its answer.",
        parameters=(_RUN,), body=Body(_CHECKPOINT), answer=None,
        failures=(
            _INVALID, Failure(404, "", "The path names no run."), _TOO_LARGE,
            Failure(409, "", "Another call drives the run by now: stop."),
        ),
    ),
    Operation(
        id="BeginRun", method="POST", path="/v1/checkpoint", asks=Role.ADMIN, tag="Endpoints", idempotent=True,
        summary="Begin a run with a request",
        about="An app that answers a request tells of it, and of the steps done by now; also at /v1/http/runs.",
        body=Body(_NEW_RUN), answer=s.v1_answer(_BEGUN),
        failures=(
            _INVALID, _PAGE, Failure(409, "", "The run is another function's, or has gone on without this request."),
            _LIMIT, _BUSY,
        ),
    ),
    Operation(
        id="ReportRun", method="POST", path="/v1/checkpoint/{id}/steps", asks=Role.ADMIN, tag="Endpoints",
        idempotent=True,
        summary="Report steps of a request",
        about="Records what an app has done since, while it answers the request that began the run.",
        parameters=(_RUN,), body=Body(_CHECKPOINT), answer=None,
        failures=(
            _INVALID, _PAGE, Failure(404, "", "No run of that id began with a request."),
            Failure(409, "", "The run has ended, or has gone on without this request: stop."), _LIMIT, _BUSY,
        ),
    ),
    Operation(
        id="AwaitRunOutput", method="GET", path="/v1/checkpoint/{id}/output", tag="Endpoints", read_only=True,
        summary="Wait for the answer to a request",
        about="Answers as the request would have been answered, once its run has ended; other methods do the same.",
        parameters=(_RUN, Parameter("token", s.NAME, "The token of the run.", required=True)), answer=s.ANY,
        failures=(
            Failure(401, "", "The token is not valid, or is of another run."),
            Failure(404, "", "The run has been deleted."),
            Failure(410, "", "The run was cancelled.", s.record({"error": s.record({"message": s.TEXT})})),
            Failure(500, "", "The run has failed.", s.record({"error": s.record({"message": s.TEXT})})),
        ),
    ),
    Operation(
        id="QueryGraphql", method="POST", path="/v0/gql", asks=Role.VIEWER, tag="Server",
        summary="Ask in GraphQL", about="The subset that tools of the protocol use.",
        body=Body(s.record({"query": s.NAME}, {"variables": s.MAYBE_OBJECT, "operationName": s.MAYBE_TEXT})),
        answer=s.record({}, {"data": s.ANY, "errors": s.array(s.record({"message": s.TEXT}))}),
        failures=(Failure(400, "", "The body is no request.", _ERRORS), _TOO_LARGE),
    ),
    Operation(
        id="CreateRealtimeToken", method="POST", path="/v1/realtime/token", asks=Role.VIEWER, tag="Realtime",
        summary="Create a token for subscribing", about="The token lets its holder, a browser say, hear these topics.",
        body=Body(s.array(_TOPIC)), answer=s.record({"jwt": s.TEXT}), status=201, failures=(_INVALID, _TOO_LARGE),
    ),
    Operation(
        id="PublishRealtime", method="POST", path="/v1/realtime/publish", tag="Realtime",
        summary="Publish a message", about="Sends a message to everybody who is subscribed; nobody keeps it.",
        parameters=(
            Parameter("channel", s.NAME, "The channel.", required=True),
            Parameter("topic", s.array(s.NAME) | {"minItems": 1}, "The topics.", required=True),
            Parameter("run_id", s.ULID, "The run that publishes."),
        ),
        body=Body(s.ANY, required=False), answer=None, failures=(_INVALID, _TOO_LARGE),
    ),
    Operation(
        id="ListConnections", method="GET", path="/v0/connect/envs/{environment}/conns", tag="Apps", read_only=True,
        summary="List connected workers", about="The workers that are connected by WebSocket.",
        parameters=(_ENVIRONMENT, Parameter("app_id", s.TEXT, "Only workers of this app.")),
        answer=s.record({"data": s.array(_WORKER)}), failures=(Failure(404, "", "The path names no environment."),),
    ),
)  # fmt: skip
"""The operations of SDKs and their tools."""

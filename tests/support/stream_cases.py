"""Cases of streams that nobody recorded: what a server with a log says, and what goes wrong on the way."""

from __future__ import annotations

import json

from perdure.model.json import Json
from tests.support.replaying import Case, Expected, Reply

JSON = {"content-type": "application/json"}


def sse(event: str, data: Json, id: int | None = None) -> str:
    """One event in the framing of the protocol."""
    head = "" if id is None else f"id: {id}\n"
    return f"{head}event: inngest.{event}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


def chunk(data: Json, step: str | None = "a", id: int | None = None) -> str:
    return sse("stream", {"data": data} | ({} if step is None else {"hashedStepId": step}), id)


def commit(step: str = "a", id: int | None = None) -> str:
    return sse("commit", {"hashedStepId": step}, id)


def rollback(step: str = "a", id: int | None = None) -> str:
    return sse("rollback", {"hashedStepId": step}, id)


def answer(body: str, status: int = 200, id: int | None = None, how: str = "succeeded", **more: Json) -> str:
    return sse(
        "response", {"status": how, "response": {"body": body, "statusCode": status, "headers": JSON, **more}}, id
    )


META = sse("metadata", {"runId": "R"})
REDIRECT = sse("redirect_info", {"runId": "R", "url": "{origin}/relay"})
REDIRECT_WITH_OUTPUT = sse("redirect_info", {"runId": "R", "url": "{origin}/relay", "outputUrl": "/output"})
META_TOLD: tuple[str, Json] = ("metadata", {"runId": "R"})
DONE = answer('"done"')
REST_OF_PARALLEL = commit("b") + chunk(4, "a") + commit("a") + DONE


def data(value: Json, step: str | None = "a") -> tuple[str, Json]:
    return "data", {"data": value, "hashedStepId": step}


def committed(step: str = "a") -> tuple[str, Json]:
    return "commit", {"hashedStepId": step}


def taken_back(step: str = "a") -> tuple[str, Json]:
    return "rollback", {"hashedStepId": step}


def done(*events: tuple[str, Json], resumed_after: list[str] | None = None) -> Expected:
    return Expected([META_TOLD, *events], headers=JSON, body='"done"', resumed_after=resumed_after)


def failing(message: str, *events: tuple[str, Json], resumed_after: list[str] | None = None) -> Expected:
    return Expected([META_TOLD, *events], error=message, stream_errors=[message], resumed_after=resumed_after)


CRLF = (META + chunk("é") + commit() + DONE).replace("\n", "\r\n").encode()

CASES: dict[str, Case] = {
    "crlf_cut_anywhere": Case(
        "framing with CRLF, a byte at a time",
        [Reply([CRLF[i : i + 1] for i in range(len(CRLF))])],
        done(data("é"), committed()),
    ),
    "unknown": Case(
        "comments, other fields, other events, more keys, data that is no object",
        [
            Reply(
                [
                    ": hello\nretry: 10\nunknown\n\nevent: inngest.new\ndata: {\n\n",
                    "data: no event\n\n",
                    sse("stream", [1]),
                    sse("metadata", {"runId": "R", "more": 1}),
                    'event:inngest.stream\ndata:{"data":\ndata:1,"x":2}\n\n',
                    sse("stream", {}),
                    DONE,
                ]
            )
        ],
        done(data(1, None), data(None, None)),
    ),
    "bad_json": Case(
        "an event that is known and is no JSON",
        [Reply([META, "event: inngest.stream\ndata: {\n\n", DONE])],
        failing("event inngest.stream is not JSON"),
    ),
    "bad_shape": Case(
        "an event that is known and has another shape",
        [Reply([META, sse("commit", {"hashedStepId": 1}), DONE])],
        failing("event inngest.commit has an unknown shape"),
    ),
    "unterminated": Case(
        "the last event lacks its blank line",
        [Reply([META, DONE.rstrip("\n")])],
        failing("No response"),
    ),
    "unterminated_then_relay": Case(
        "what was cut off is told by the relay",
        [Reply([META, chunk("hel", id=1), REDIRECT, chunk("lo", id=2).rstrip("\n")], then="break")],
        done(data("hel"), data("lo"), committed(), resumed_after=["1"]),
        [Reply([chunk("lo", id=2), commit(id=3), answer('"done"', id=4)], then="hang")],
    ),
    "parallel": Case(
        "two steps stream beside each other, one is rolled back",
        [
            Reply(
                [
                    META,
                    chunk(1, "a"),
                    chunk(2, "b"),
                    chunk(3, "a"),
                    rollback("a"),
                    commit("b"),
                    chunk(4, "a"),
                    commit("a"),
                    DONE,
                ]
            )
        ],
        done(data(1, "a"), data(2, "b"), data(3, "a"), taken_back("a"), committed("b"), data(4, "a"), committed("a")),
    ),
    "failed": Case(
        "the run fails",
        [Reply([META, chunk("x"), rollback(), answer('"boom"', 500, how="failed")])],
        Expected([META_TOLD, data("x"), taken_back()], 500, JSON, '"boom"', stream_errors=['"boom"']),
    ),
    "no_content": Case("an answer without a body", [Reply([META, answer("", 204)])], Expected([META_TOLD], 204)),
    "exact": Case(
        "bytes and repeated headers in the fields beside those that cannot carry them",
        [Reply([META, answer("", 201, body_b64="aMOp", headers_list=[["x-a", "1"], ["x-a", "2"]])])],
        Expected([META_TOLD], 201, {"x-a": "1, 2"}, "hé"),
    ),
    "overlap": Case(
        "the relay repeats what was heard, and is heard once",
        [Reply([META, chunk("a", id=1), REDIRECT, chunk("b", id=2), commit(id=3)])],
        done(data("a"), data("b"), committed(), data("c", "s"), resumed_after=["1"]),
        [Reply([META, chunk("b", id=2), commit(id=3), chunk("c", "s", id=4), answer('"done"', id=5)], then="hang")],
    ),
    "relay_breaks": Case(
        "the relay breaks off, ends, is down, and goes on from where it was",
        [Reply([META, REDIRECT])],
        done(data(1), data(2), committed(), resumed_after=["", "1", "1", "2"]),
        [
            Reply([":\n\n", chunk(1, id=1)], then="break"),
            Reply(["starting"], 503, {"content-type": "text/plain"}),
            Reply([chunk(2, id=2)]),
            Reply([commit(id=3), answer('"done"', id=4)]),
        ],
    ),
    "relay_without_log": Case(
        "what is in no log cannot be decided once the connection is lost",
        [Reply([META, REDIRECT])],
        done(data("hel"), taken_back(), data("hello"), committed(), resumed_after=["", ""]),
        [Reply([chunk("hel")], then="break"), Reply([chunk("hello"), commit(), DONE])],
    ),
    "direct_breaks": Case(
        "the app dies in the middle of a step, and runs it again",
        [Reply([META, chunk("x", "z"), commit("z"), REDIRECT, chunk("hel")], then="break")],
        done(data("x", "z"), committed("z"), data("hel"), taken_back(), data("hello"), committed()),
        [Reply([chunk("hello"), commit(), DONE], then="hang")],
    ),
    "direct_breaks_alone": Case(
        "the app dies before anybody knows of the run",
        [Reply([META, chunk("hel")], then="break")],
        failing("the stream broke off", data("hel"), taken_back()),
    ),
    "relay_fails_once": Case(
        "the relay fails when it is asked first",
        [Reply([META, REDIRECT])],
        done(resumed_after=["", ""]),
        [Reply(["sorry"], 500), Reply([DONE])],
    ),
    "relay_unknown": Case(
        "the relay does not know the run",
        [Reply([META, REDIRECT])],
        failing("Stream request failed: 404 Not Found", resumed_after=[""]),
        [Reply(["{}"], 404, JSON)],
    ),
    "relay_over": Case(
        "the relay has nothing left",
        [Reply([META, REDIRECT])],
        failing("the stream is over: nothing comes after this event", resumed_after=[""]),
        [Reply([], 204)],
    ),
    "relay_expired": Case(
        "the relay's token has expired, and nothing else is known",
        [Reply([META, REDIRECT])],
        failing("Stream request failed: 401 Unauthorized", resumed_after=[""]),
        [Reply(["{}"], 401, JSON)],
    ),
    "relay_expired_with_output": Case(
        "the relay's token has expired while the run goes on: the answer is waited for alone",
        [Reply([META, REDIRECT_WITH_OUTPUT])],
        Expected([META_TOLD], 202, JSON, '"late"'),
        [Reply(["{}"], 401, JSON)],
        [
            Reply(['{"status":"running","message":"still"}'], 200, {"content-type": "text/plain; charset=utf-8"}),
            Reply([], then="break"),
            Reply(['"late"'], 202, JSON),
        ],
    ),
    "plain": Case(
        "an answer that is no stream", [Reply(['{"error":"no"}'], 418, JSON)], Expected([], 418, JSON, '{"error":"no"}')
    ),
}

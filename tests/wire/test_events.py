"""`POST /e/{key}`: what goes in, what is refused and how, and that nothing of a refused request is stored."""

from __future__ import annotations

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.model.errors import StoreError
from perdure.model.ids import is_ulid
from perdure.model.json import encode
from tests.support.wire import Wire, serving

SEED = "1700000000000,AAAAAAAAAAAAAA=="


async def post(wire: Wire, body: bytes, content_type: str = "application/json") -> httpx2.Response:
    return await wire.http.post("/e/key", content=body, headers={"content-type": content_type})


async def test_one_event_is_stored_before_the_answer(wire: Wire) -> None:
    response = await wire.send({"name": "ok/single", "data": {"a": 1}})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-inngest-server-kind"] == "dev"
    assert response.headers["vary"] == "Origin"
    body = response.json()
    assert body["status"] == 200 and is_ulid(body["ids"][0]) and "error" not in body
    stored = (await wire.http.get(f"/v1/events/{body['ids'][0]}")).json()["data"]
    assert stored["name"] == "ok/single" and stored["data"] == {"a": 1}


async def test_a_batch_gets_internal_ids_in_its_order(wire: Wire) -> None:
    response = await wire.send([{"name": "ok/a", "id": "mine"}, {"name": "ok/b"}])
    ids = response.json()["ids"]
    assert len(ids) == 2 and ids == sorted(ids) and "mine" not in ids
    names = [(await wire.http.get(f"/v1/events/{each}")).json()["data"]["name"] for each in ids]
    assert names == ["ok/a", "ok/b"]


@pytest.mark.parametrize("body", [b"", b"  \n", b"[]", b" [ ] "])
async def test_nothing_sent_is_no_error(wire: Wire, body: bytes) -> None:
    response = await post(wire, body)
    assert (response.status_code, response.json()) == (200, {"ids": [""], "status": 200})


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({"data": {}}, "event name is empty"),
        ({"name": "", "data": {}}, "event name is empty"),
        ({"name": 5}, "event name must be a string, got a number"),
        ({"name": "inngest/foo"}, "event name is reserved for internal use: inngest/foo"),
        ({"name": "Inngest/foo"}, "event name is reserved for internal use: Inngest/foo"),
        ({"name": "x", "data": "text"}, "event data must be an object, got a string"),
        ({"name": "x", "data": [1]}, "event data must be an object, got an array"),
        ({"name": "x", "ts": 1}, "timestamp is before Jan 1, 1980"),
        ({"name": "x", "ts": 99999999999999}, "timestamp is after Jan 1, 2100"),
        ({"name": "x", "ts": "2024-01-01"}, "event ts must be a whole number of milliseconds, got a string"),
        ({"name": "x", "id": 5}, "event id must be a string, got a number"),
    ],
)
async def test_a_malformed_event_is_refused(wire: Wire, event: object, error: str) -> None:
    response = await wire.send(event)
    assert response.status_code == 400
    assert response.json() == {"ids": [""], "status": 400, "error": error}
    batch = await wire.send([{"name": "ok/a"}, event, {"name": "ok/c"}])
    assert batch.json() == {"ids": [""], "status": 400, "error": f"events[1]: {error}"}
    assert await wire.stored_events() == 0


@pytest.mark.parametrize(
    "event",
    [
        {"name": "x"},
        {"name": "x", "data": None},
        {"name": "x", "data": {}, "user": None, "v": None, "id": None},
        {"name": "x", "data": {}, "foo": 1},
    ],
)
async def test_optional_fields_may_be_missing_null_or_unknown(wire: Wire, event: object) -> None:
    assert (await wire.send(event)).status_code == 200


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"not json", "Request body must contain an event object or an array of event objects"),
        (b'"text"', "Request body must contain an event object or an array of event objects"),
        (b'{"name":"x"', "request body is not valid JSON: "),
        (b'{"name":NaN}', "request body is not valid JSON: "),
        (b'{"name":"x"} {}', "request body is not valid JSON: "),
        (b'{"name":"\xff"}', "request body is not valid JSON: "),
        (b'{"name":"\\ud800"}', "request body is not valid JSON: "),
        (b'\xef\xbb\xbf{"name":"x"}', "request body begins with a byte order mark"),
        (b'{"name":"x","data":' + b'{"a":' * 300 + b"1" + b"}" * 301, "event is nested deeper than 256 levels"),
        (b"[" * 100_000, "request body is not valid JSON: "),
        (b'{"name":"x","data":{"n":1e400}}', "request body is not valid JSON: "),
        (b"[1]", "events[0]: event must be a JSON object, got a number"),
        (b'[{"name":"x"},null]', "events[1]: event must be a JSON object, got null"),
    ],
)
async def test_a_body_that_holds_no_events_is_refused(wire: Wire, body: bytes, error: str) -> None:
    response = await post(wire, body)
    told = response.json()
    assert response.status_code == told["status"] == 400
    assert told["ids"] == [""] and told["error"].startswith(error)
    assert await wire.stored_events() == 0


async def test_depth_is_counted_a_single_event_at_a_time(wire: Wire) -> None:
    deep = {"name": "x", "data": {"v": "a"}}
    nested: object = 1
    for _ in range(250):
        nested = [nested]
    assert (await wire.send([deep] * 300)).status_code == 200
    assert (await wire.send([{"name": "x", "data": {"v": nested}}])).status_code == 200


async def test_more_events_than_allowed_are_refused_whole(wire: Wire) -> None:
    body = b"[" + b",".join([b'{"name":"x"}'] * 5001) + b"]"
    response = await post(wire, body)
    assert response.status_code == 400
    assert response.json()["error"] == "Cannot have more than 5000 events in a batch"
    assert await wire.stored_events() == 0


async def test_an_event_over_three_mebibytes_is_refused_with_its_size(wire: Wire) -> None:
    event = encode({"name": "x", "data": {"v": "a" * 3_145_728}})
    size = f"Event is over the max size: Max 3145728 bytes / Size {len(event)} bytes"
    assert (await post(wire, event)).json()["error"] == size
    batch = await post(wire, b'[{"name": "x"}, ' + event + b"]")
    assert batch.json()["error"] == f"events[1]: {size}"


async def test_a_form_over_three_mebibytes_is_refused(wire: Wire) -> None:
    response = await post(wire, b"name=x&a=" + b"b" * 3_145_728, "application/x-www-form-urlencoded")
    assert response.status_code == 400
    assert response.json()["error"].startswith("Event is over the max size: Max 3145728 bytes / Size 3145737")


async def test_a_batch_of_large_events_is_accepted(wire: Wire) -> None:
    event = encode({"name": "x", "data": {"v": "a" * 2_000_000}})
    response = await post(wire, b"[" + event + b"," + event + b"]")
    assert len(response.json()["ids"]) == 2


async def test_a_body_over_the_limit_is_refused_unread(wire: Wire) -> None:
    headers = {"content-length": str(100 * 1024 * 1024), "content-type": "application/json"}
    response = await wire.http.post("/e/key", content=b"{}", headers=headers)
    assert response.status_code == 413
    assert response.json() == {
        "ids": [""],
        "status": 413,
        "error": "request body is larger than 67108864 bytes",
    }


async def test_seeded_ids_repeat_and_change_nothing_the_second_time(wire: Wire) -> None:
    events = [{"name": "t/plain"}, {"name": "y"}]
    first = await wire.send(events, **{"x-inngest-event-id-seed": SEED})
    again = await wire.send(events, **{"x-inngest-event-id-seed": SEED})
    assert first.json()["ids"] == ["01HF7YAT000000000000000001", "01HF7YAT000000000000000002"]
    assert again.json() == first.json()
    await wire.node.settle()
    runs = await wire.http.get("/v1/events/01HF7YAT000000000000000001/runs")
    assert len(runs.json()["data"]) == 1
    assert await wire.stored_events() == 2


@pytest.mark.parametrize(
    "seed",
    ["x", "1700000000000", "1700000000000,AAAA", "-1,AAAAAAAAAAAAAA==", "999999999999999,AAAAAAAAAAAAAA==", "1,!"],
)
async def test_a_seed_that_is_none_is_refused(wire: Wire, seed: str) -> None:
    response = await wire.send({"name": "x"}, **{"x-inngest-event-id-seed": seed})
    assert response.status_code == 400
    assert response.json()["error"].startswith("header x-inngest-event-id-seed must be milliseconds")
    assert await wire.stored_events() == 0


async def test_reserved_data_is_stripped(wire: Wire) -> None:
    response = await wire.send({"name": "x", "data": {"_inngest": {"fn_id": "evil"}, "a": 1}})
    stored = (await wire.http.get(f"/v1/events/{response.json()['ids'][0]}")).json()["data"]
    assert stored["data"] == {"a": 1}


async def test_forms_become_events(wire: Wire) -> None:
    form = await wire.http.post("/e/key", data={"name": "form/sent", "order": "7"})
    parts = await wire.http.post("/e/key", files={"name": (None, "form/parts"), "tag": (None, "a")})
    stored = (await wire.http.get("/v1/events")).json()["data"]
    assert form.status_code == parts.status_code == 200
    assert [(event["name"], event["data"]) for event in stored] == [
        ("form/parts", {"tag": ["a"]}),
        ("form/sent", {"order": ["7"]}),
    ]


@pytest.mark.parametrize(
    ("body", "content_type", "error"),
    [
        (b"a=1&b=2&b=3", "application/x-www-form-urlencoded", "event name is empty"),
        (b"\xff=1", "application/x-www-form-urlencoded", "request body is not a valid form: "),
        (b"name=x&ts=soon", "application/x-www-form-urlencoded", "event ts must be a whole number"),
        (b"x", "multipart/form-data", "request body is not a valid form: "),
        (b"x", "multipart/form-data; boundary=b", "request body is not a valid form: "),
    ],
)
async def test_a_form_that_is_no_event_is_refused(wire: Wire, body: bytes, content_type: str, error: str) -> None:
    response = await post(wire, body, content_type)
    assert response.status_code == 400 and response.json()["error"].startswith(error)


async def test_requests_without_a_key_or_with_another_method(wire: Wire) -> None:
    for path in ("/e", "/e/"):
        response = await wire.http.post(path, json={"name": "x"})
        assert response.status_code == 401
        assert response.json() == {"status": 401, "message": "", "error": "Event key not found"}
    response = await wire.http.get("/e/key")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.json() == {"ids": [""], "status": 405, "error": "Method Not Allowed"}
    assert (await wire.http.post("/e/key/more", json={})).status_code == 404


async def test_browsers_may_send(wire: Wire) -> None:
    asked = {
        "origin": "http://x",
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-foo",
    }
    response = await wire.http.options("/e/key", headers=asked)
    assert response.status_code == 200 and response.content == b""
    assert response.headers["access-control-allow-origin"] == "http://x"
    assert response.headers["access-control-allow-methods"] == "POST"
    assert response.headers["access-control-allow-headers"] == "x-foo"
    assert response.headers["access-control-max-age"] == "3600"
    sent = await wire.send({"name": "x"}, origin="http://x")
    assert sent.headers["access-control-allow-origin"] == "http://x"
    assert sent.headers["access-control-expose-headers"] == "Link, Mcp-Session-Id"


async def test_a_store_that_fails_is_said_so(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*args: object, **kwargs: object) -> None:
        raise StoreError("disk full at /secret/place")

    monkeypatch.setattr(wire.node, "ingest", full)
    response = await wire.send({"name": "x"})
    assert response.status_code == 503 and response.headers["retry-after"] == "1"
    assert response.json()["status"] == 503 and "secret" not in response.text


async def test_what_nobody_expected_is_logged_and_not_told(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(wire.node, "ingest", broken)
    response = await wire.send({"name": "x"})
    assert response.status_code == 500
    assert response.json() == {"ids": [""], "status": 500, "error": "internal server error"}
    assert "a secret" in caplog.text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
EVENT = st.fixed_dictionaries({}, optional={key: JSON for key in ("name", "data", "id", "ts", "user", "v", "meta")})
NAMED = st.builds(lambda event: {"name": "f/x", **event}, EVENT)
CONTENT_TYPES = [
    "",
    "application/json",
    "text/plain",
    "multipart/form-data; boundary=b",
    "multipart/form-data",
    "application/x-www-form-urlencoded",
    "\x00\xff; charset=nope",
]
BODIES = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda head, tail: head + tail, st.sampled_from([b"{", b"[", b'{"name":"x",']), st.binary(max_size=50)),
    st.one_of(EVENT, NAMED, st.lists(st.one_of(EVENT, NAMED), max_size=3), JSON).map(encode),
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    bodies=st.lists(
        st.tuples(
            BODIES,
            st.sampled_from(CONTENT_TYPES),
        ),
        min_size=1,
        max_size=20,
    )
)
async def test_no_body_brings_the_server_down(bodies: list[tuple[bytes, str]]) -> None:
    async with serving() as wire:
        for body, content_type in bodies:
            response = await wire.http.post(
                "/e/key", content=body, headers={b"content-type": content_type.encode("latin-1")}
            )
            assert response.status_code in (200, 400), (body, content_type, response.text)
            assert response.json()["status"] == response.status_code

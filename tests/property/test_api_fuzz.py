"""Whatever bodies come: no answer is a 5xx, and every event whose id was given back can be read as it was sent.

Bodies are made as text, so that they hold what no JSON encoder would write: numbers beyond every range, halves of
surrogate pairs, keys given twice, deep nesting, bytes that are no UTF-8.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import httpx2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from perdure.model.json import InvalidJsonError, Json, decode
from perdure.server.catalogue import PROTOCOL, V1, V2
from tests.support.wire import Wire, serving

UNKNOWN = "01M811P18277Y0AMMWSQ8QVTTA"
_NUMBERS = ("0", "-0", "-1", "1.5", "1e400", "-1e-400", "9" * 19, "9" * 30, "18446744073709551616", "0.1e1")
_TEXTS = (
    '""',
    '"x"',
    '"t/plain"',
    '"inngest/x"',
    r'"\ud800"',
    r'"\u0000"',
    '"%s"' % ("x" * 600),
    '"2027-01-15"',
    f'"{UNKNOWN}"',
)
_FIELDS = (
    "name", "data", "id", "ts", "user", "v", "signal", "if", "function_id", "app_id", "started_after", "started_before",
    "fromStep", "stepId", "input", "idempotencyKey", "status", "from", "until", "replayId", "metadata", "target",
    "kind", "scope", "op", "values", "step_id", "value", "bogus", "__proto__", "",
)  # fmt: skip

scalars = st.one_of(
    st.sampled_from((*_NUMBERS, *_TEXTS, "true", "null", '"waiter"', '"shop-waiter"', "NaN", "tru", "")),
    st.integers().map(str),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters='"\\'), max_size=8).map('"{}"'.format),
)


def _objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    fields = st.tuples(st.sampled_from(_FIELDS), values).map(lambda pair: f'"{pair[0]}":{pair[1]}')
    return st.lists(fields, max_size=6).map(lambda parts: "{" + ",".join(parts) + "}")


texts = st.recursive(
    scalars,
    lambda inner: st.one_of(_objects(inner), st.lists(inner, max_size=4).map(lambda parts: f"[{','.join(parts)}]")),
)
nested = st.builds(
    lambda depth, name: f'{{"name":"t/plain","{name}":' * depth + "1" + "}" * depth,
    st.sampled_from([2, 200, 255, 256, 257, 900, 5000]),
    st.sampled_from(_FIELDS),
)
bodies = st.one_of(_objects(texts), texts, nested).map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(
    max_size=20
)
events = st.one_of(
    bodies,
    st.lists(
        st.tuples(st.sampled_from(("t/plain", "t/none", "x")), texts).map(
            lambda pair: f'{{"name":"{pair[0]}","data":{{"k":{pair[1]}}}}}'
        ),
        min_size=1,
        max_size=3,
    ).map(lambda parts: f"[{','.join(parts)}]".encode("utf-8", "surrogatepass")),
)
WRITES = [(each.method, each.path) for each in (*PROTOCOL, *V1) if each.method != "GET"] + [
    (each.method, mount + each.path) for each in V2 if each.method != "GET" for mount in ("/v2", "/api/v2")
]
BOUNDED = settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


class World:
    """A server, and the loop in which it lives while a test asks it."""

    def __init__(self, runner: asyncio.Runner, wire: Wire) -> None:
        self.runner = runner
        self.wire = wire
        self.run_id = runner.run(wire.start("t/two"))

    def request(self, method: str, path: str, body: bytes = b"") -> httpx2.Response:
        filled = path.format(
            key="key", slug="shop-plain", run_id=self.run_id, event_id=UNKNOWN, app_id="shop", function_id="plain",
            id="shop" if "/apps/" in path else self.run_id, step_id=UNKNOWN, env_id="branch",
        )  # fmt: skip
        headers = {"content-type": "application/json"}
        return self.runner.run(self.wire.http.request(method, filled, content=body, headers=headers))

    def settle(self) -> None:
        self.runner.run(self.wire.node.settle())


@pytest.fixture(scope="module")
def world() -> Generator[World]:
    with asyncio.Runner() as runner:
        context = serving()
        yield World(runner, runner.run(context.__aenter__()))
        runner.run(context.__aexit__(None, None, None))


@pytest.mark.parametrize(("method", "path"), WRITES, ids=[f"{method} {path}" for method, path in WRITES])
def test_no_body_brings_the_server_down(world: World, method: str, path: str) -> None:
    @BOUNDED
    @given(bodies)
    @example(b'{"fromStep":{"stepId":"a","input":' + b"[" * 240 + b"]" * 240 + b"}}")
    @example(b"[" * 100_000)
    def ask(body: bytes) -> None:
        answer = world.request(method, path, body)
        assert answer.status_code < 500 or answer.status_code == 501, (body, answer.text)
        if answer.status_code >= 400:
            told: Json = answer.json()
            assert told.get("error") or told["errors"][0]["message"]

    ask()
    world.settle()


@settings(parent=BOUNDED, max_examples=300)
@given(events)
@example(b'{"name":"t/plain","data":{"n":123456789012345678901234567890}}')
@example(rb'{"name":"t/plain","data":{"k":"\ud800"}}')
def test_no_accepted_event_is_lost(world: World, body: bytes) -> None:
    answer = world.request("POST", "/e/key", body)
    assert answer.status_code in (200, 400, 413), (body, answer.text)
    told = answer.json()
    if answer.status_code != 200:
        assert told["ids"] == [""] and told["error"]
        return
    try:
        sent = decode(body)
    except InvalidJsonError:
        # An empty body sends nothing.
        assert not body.strip() and told["ids"] == [""]
        return
    sent = sent if isinstance(sent, list) else [sent]
    assert len(told["ids"]) == max(1, len(sent))
    for event_id, event in zip(told["ids"], sent, strict=False):
        stored = world.request("GET", f"/v1/events/{event_id}")
        assert stored.status_code == 200, (body, stored.text)
        data = stored.json()["data"]
        assert (data["name"], data["data"]) == (event["name"], event.get("data") or {})
        runs = world.request("GET", f"/v1/events/{event_id}/runs").json()["data"]
        expected = event["name"] in ("t/plain", "t/two", "t/wait", "t/flaky", "t/boom")
        assert len(runs) >= int(expected and "id" not in event)
    world.settle()

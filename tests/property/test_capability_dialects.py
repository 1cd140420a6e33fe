"""However a document is written, the same calls send the same requests, by REST and by tools."""

from __future__ import annotations

import asyncio
import re

import httpx2
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.capability.mcp import offering
from perdure.capability.rest import RestDoor
from perdure.capability.running import Running
from perdure.capability.upstream import Request
from perdure.model.json import Json, decode
from perdure.server.mcp.offering import Caller
from tests.support.capability_dialects import CALLS, Call, Dialect, document
from tests.support.upstreams import FakeUpstream, faces, opened, running

VERSIONS = st.sampled_from(
    [("naftiko", "0.5"), ("naftiko", "1.0.0-alpha1"), ("naftiko", "1.0.0-alpha2"), ("ikanos", "1.0.0-alpha3"),
     ("ikanos", "1.0.0-beta2"), ("ikanos", "1.0.0-beta4"), ("naftiko", "1.0.0-beta4")]
)  # fmt: skip
ARGUMENTS = {"name": "t/x y", "limit": 3, "includeOutput": "true", "cursor": "c"}
BODY = {"name": "t/x", "data": {"n": 1}}


@st.composite
def dialects(draw: st.DrawFn) -> Dialect:
    root, version = draw(VERSIONS)
    return Dialect(
        root=root,
        version=version,
        maps=draw(st.booleans()),
        label=draw(st.sampled_from(["label", "display", "title"])),
        typed=draw(st.booleans()),
        braces=draw(st.sampled_from([1, 2])),
        prefix=draw(st.sampled_from(["word", "namespace", "kind", "template", "none"])),
        outputs=draw(st.sampled_from(["$.", "$", ""])),
        described=draw(st.booleans()),
        lower=draw(st.booleans()),
        inputs=draw(st.booleans()),
        body=draw(st.sampled_from(["parameter", "template", "typed", "none"])),
        required=draw(st.booleans()),
        token=draw(st.sampled_from(["{{API_TOKEN}}", "{{env.API_TOKEN}}", "$env.API_TOKEN", "{{ API_TOKEN }}"])),
        unused=draw(st.booleans()),
        binds=draw(st.sampled_from(["before", "after", "within"])),
        hints=draw(st.sampled_from(["hints", "annotations", ""])),
        ports=draw(st.sampled_from([8080, "9090"])),
        base=draw(
            st.sampled_from(["https://api.inngest.com", "https://api.inngest.com/", "https://other.example/base"])
        ),
        method=draw(st.sampled_from(["upper", "lower"])),
    )


def named(call: Call) -> dict[str, Json]:
    return {**{name: f"a/b {name}" for name in call.places}, **{name: ARGUMENTS[name] for name in call.query}}


def fitting(schema: Json, value: Json) -> Json:
    """A value as an agent gives it that reads the schema."""
    return str(value) if schema.get("type") == "string" else value


def expected(dialect: Dialect, call: Call) -> tuple[str, str, dict[str, str], Json]:
    """What must be asked of the upstream."""
    base = dialect.base if dialect.base.endswith("base") else "http://perdure"
    path = re.sub(r"\{(\w+)\}", lambda match: f"a%2Fb%20{match[1]}", call.path)
    query = {name: str(ARGUMENTS[name]) for name in call.query}
    return call.method, base + path, query, BODY if call.body else None


def sent(request: Request) -> tuple[str, str, dict[str, str], Json]:
    assert request.headers["authorization"] == "Bearer sesame"
    body = decode(request.body) if request.body else None
    return request.method, request.url, {name: str(value) for name, value in request.query}, body


@settings(max_examples=25)
@given(dialects())
def test_the_same_requests_are_sent(dialect: Dialect) -> None:
    text = yaml.safe_dump(document(dialect), sort_keys=False)
    document_ = opened(text)
    assert [each for each in document_.findings.all if each.severity == "error"] == []
    upstream = FakeUpstream(lambda request: {"ok": True})
    variables = {"API_TOKEN": "sesame", **({"EVENT_KEY": "k"} if dialect.unused else {})}
    one = running(document_, upstream, **variables)
    asyncio.run(_both(dialect, one, upstream))


async def _both(dialect: Dialect, one: Running, upstream: FakeUpstream) -> None:
    tools = {each.name: each for each in offering(faces(one, "mcp")).tools}
    transport = httpx2.ASGITransport(RestDoor(faces(one, "rest")))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
        for call in CALLS:
            path = re.sub(r"\{(\w+)\}", lambda match: f"a%2Fb%20{match[1]}", call.path)
            query = {name: str(ARGUMENTS[name]) for name in call.query}
            place = re.sub(r"\{\w+\}", "", path)
            answer = await http.request(
                call.method, place.lower() if dialect.lower and not call.places else path, params=query,
                json=BODY if call.body else None,
            )  # fmt: skip
            assert (answer.status_code, answer.json()) == (200, {"ok": True}), (call.name, answer.text)
            assert sent(upstream.last) == expected(dialect, call), call.name
            properties = tools[call.name].input_schema["properties"]
            given_ = {name: fitting(properties[name], value) for name, value in named(call).items()}
            given_ |= {"body": BODY} if call.body else {}
            told = await tools[call.name].call(given_, Caller())
            assert told.value == {"ok": True}, call.name
            assert sent(upstream.last) == expected(dialect, call), call.name

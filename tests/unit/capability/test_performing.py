"""Carrying operations out: requests, shapes, formats, steps, and what is never sent."""

from __future__ import annotations

import pytest

from perdure.capability.findings import CapabilityError
from perdure.capability.formats import FormatError, read
from perdure.capability.jsonpath import JsonPathError
from perdure.capability.jsonpath import parse as path
from perdure.capability.requests import CallError
from perdure.capability.running import Running
from perdure.capability.templates import TemplateError, names, path_names, render, render_json
from perdure.capability.upstream import Reply, Request
from perdure.model.json import Json
from tests.support.upstreams import FakeUpstream, opened, perform, running

DOCUMENT = """\
naftiko: 1.0.0-alpha2
binds: [{namespace: env, keys: {KEY: KEY}}]
capability:
  consumes:
  - type: http
    namespace: up
    baseUri: http://up/v1/
    authentication: %s
    resources:
    - name: things
      path: things/{{id}}
      operations:
      - name: call
        method: POST
        inputParameters:
        - {name: id, in: path}
        - {name: q, in: query}
        - {name: X-Mode, in: header, value: "mode-{{KEY}}"}
        - {name: sid, in: cookie}
%s
  exposes:
  - type: mcp
    port: 1
    namespace: tools
    tools:
    - name: call
      description: Call.
      inputParameters:
      - {name: id, type: string, description: Id.}
      - {name: q, type: array, description: Q., required: false}
      - {name: sid, type: string, description: Sid., required: false}
      - {name: text, type: string, description: Text., required: false}
      - {name: data, type: object, description: Data., required: false}
      call: up.call
      with: {id: tools.id, q: tools.q, sid: tools.sid%s}
      outputParameters:
%s
"""
WHOLE = "      - {type: object}"
BASIC = "{type: basic, username: '{{KEY}}'}"


def made(upstream: FakeUpstream, body: str = "", outputs: str = WHOLE, authentication: str = BASIC) -> Running:
    """The document with a body and outputs, running."""
    more = ', text: "{{text}}", data: tools.data' if body else ""
    return running(opened(DOCUMENT % (authentication, body, more, outputs)), upstream, KEY="k")


BODY = "        body: {type: %s, data: %s}"


@pytest.mark.parametrize(
    ("body", "sent", "media"),
    [
        (
            '        body: \'{"t": "{{text}}", "d": {{data}}}\'',
            b'{"t": "a \\"b\\" & c", "d": {"n":1}}',
            "application/json",
        ),
        (BODY % ("json", "{t: '{{text}}!', d: '{{data}}'}"), b'{"t":"a \\"b\\" & c!","d":{"n":1}}', "application/json"),
        (BODY % ("text", "'{{text}} {{data}}'"), b'a "b" & c {"n":1}', "text/plain; charset=utf-8"),
        (BODY % ("xml", "'<x>{{id}}</x>{{text}}{{data}}'"), b'<x>a/b</x>a "b" & c{"n":1}', "application/xml"),
        (
            BODY % ("formUrlEncoded", "{t: '{{text}}', d: '{{data}}'}"),
            b"t=a+%22b%22+%26+c&d=%7B%22n%22%3A1%7D",
            "application/x-www-form-urlencoded",
        ),
    ],
)
async def test_bodies(body: str, sent: bytes, media: str) -> None:
    upstream = FakeUpstream(lambda request: {})
    await perform(made(upstream, body), "call", id="a/b", q=["1", "x y"], sid="s;1", text='a "b" & c', data={"n": 1})
    request = upstream.last
    assert (request.body, request.headers["content-type"]) == (sent, media)
    assert (request.method, request.url) == ("POST", "http://up/v1/things/a%2Fb")
    assert request.query == [("q", "1"), ("q", "x y")]
    assert (request.headers["x-mode"], request.headers["cookie"]) == ("mode-k", "sid=s%3B1")
    assert request.headers["authorization"] == "Basic azo="


async def test_a_multipart_body() -> None:
    upstream = FakeUpstream(lambda request: {})
    parts = (
        "[{name: 'a\"b', value: '{{text}}', filename: f.txt, contentType: text/plain}, {name: d, value: '{{data}}'}]"
    )
    await perform(made(upstream, BODY % ("multipartForm", parts)), "call", id="1", text="T", data={})
    boundary = upstream.last.headers["content-type"].partition("boundary=")[2].encode()
    head = b"Content-Disposition: form-data; name="
    assert (upstream.last.body or b"").split(b"\r\n") == [
        b"--" + boundary, head + b'"a%22b"; filename="f.txt"', b"Content-Type: text/plain", b"", b"T",
        b"--" + boundary, head + b'"d"', b"", b"{}",
        b"--" + boundary + b"--", b"",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({}, "missing_parameter"),
        ({"id": ""}, "missing_parameter"),
        ({"id": ".."}, "invalid_parameter"),
        ({"id": 7}, "invalid_parameter"),
        ({"id": "1", "q": "no list"}, "invalid_parameter"),
        ({"id": "1"}, "unresolved_template"),
    ],
)
async def test_what_is_not_complete_is_never_sent(given: dict[str, Json], code: str) -> None:
    upstream = FakeUpstream(lambda request: {})
    with pytest.raises(CallError) as caught:
        await perform(made(upstream, BODY % ("text", "'{{data}} {{nobody}}{{text}}'")), "call", **given)
    assert (caught.value.code, caught.value.status, upstream.requests) == (code, 400, [])


ANSWER: Json = {
    "id": 5,
    "name": "Zoë",
    "on": "true",
    "size": {"w": "1.5"},
    "tags": [{"t": "a"}, {"t": "b"}],
    "due date": 1,
}


@pytest.mark.parametrize(
    ("outputs", "result"),
    [
        (WHOLE, ANSWER),
        ("      - {type: object, mapping: $.}", ANSWER),
        ("      - {type: object, mapping: $.size}", {"w": "1.5"}),
        ("      - {type: string, mapping: $.id}", "5"),
        ("      - {type: boolean, mapping: $.on}", True),
        ("      - {type: number, mapping: $.size.w}", 1.5),
        ("      - {type: string, mapping: $.none}\n      - {type: string, mapping: $.name}", "Zoë"),
        (
            "      - {name: a, type: string, mapping: $.name}\n      - {name: b, type: number, mapping: $.due date}",
            {"a": "Zoë", "b": 1},
        ),
        (
            "      - {type: object, properties: {n: {type: string, mapping: $.name}, s: {type: object, properties: "
            "{w: {type: number, mapping: $.size.w}}}}}",
            {"n": "Zoë", "s": {"w": 1.5}},
        ),
        ("      - {type: array, mapping: $.tags, items: {type: string, mapping: $.t}}", ["a", "b"]),
        ("      - {type: array, mapping: '$.tags[*].t'}", ["a", "b"]),
        ("      - {type: string, value: 'fixed {{id}}'}", "fixed 1"),
        ("      - {type: array, mapping: $.none, items: {type: string}}", None),
    ],
)  # fmt: skip
async def test_results_are_shaped_as_the_document_says(outputs: str, result: Json) -> None:
    assert await perform(made(FakeUpstream(lambda request: ANSWER), outputs=outputs), "call", id="1") == result


@pytest.mark.parametrize(
    ("authentication", "header", "query"),
    [
        ("{type: bearer, token: '{{env.KEY}}'}", ("authorization", "Bearer k"), []),
        ("{type: bearer, token: KEY}", ("authorization", "Bearer k"), []),
        ("{type: bearer, token: $env.KEY}", ("authorization", "Bearer k"), []),
        ("{type: apikey, key: X-Key, value: '{{KEY}}'}", ("x-key", "k"), []),
        ("{type: apikey, key: a, value: '{{KEY}}', placement: query}", ("accept", "application/json"), [("a", "k")]),
    ],
)  # fmt: skip
async def test_credentials(authentication: str, header: tuple[str, str], query: list[tuple[str, str]]) -> None:
    upstream = FakeUpstream(lambda request: {})
    await perform(made(upstream, authentication=authentication), "call", id="1")
    assert upstream.last.headers[header[0]] == header[1]
    assert upstream.last.query == query


def test_a_credential_is_never_taken_from_a_caller() -> None:
    with pytest.raises(CapabilityError, match="id has no value: set id in the environment"):
        made(FakeUpstream(lambda request: {}), authentication="{type: bearer, token: '{{id}}'}")


STEPS = """\
naftiko: 1.0.0-alpha2
capability:
  consumes:
  - type: http
    namespace: up
    baseUri: http://up
    resources:
    - name: a
      path: /a
      operations:
      - {name: first, method: GET, outputParameters: [{name: key, type: string, value: '$.items[0].id'}]}
    - name: b
      path: '/b/{{id}}'
      operations:
      - {name: second, method: GET, inputParameters: [{name: id, in: path}, {name: n, in: query}]}
  exposes:
  - type: mcp
    port: 1
    namespace: tools
    tools:
    - name: chain
      description: Chain.
      inputParameters: [{name: n, type: integer, description: N., required: false}]
      steps:
      - {name: one, type: call, call: up.first}
      - {name: two, type: call, call: up.second, with: {id: %s}}
      %s
"""


@pytest.mark.parametrize(
    "reference", ["one.key", "'{{one.key}}'", "'$.one.items[0].id'", "'$.one.key'", "'x{{one.key}}'"]
)
async def test_steps_use_what_earlier_ones_gave(reference: str) -> None:
    upstream = FakeUpstream(lambda request: {"items": [{"id": "k7"}]} if request.url.endswith("/a") else {"ok": 1})
    assert await perform(running(opened(STEPS % (reference, "")), upstream), "chain", n=3) == {"ok": 1}
    assert upstream.last.url == f"http://up/b/{'x' if 'x{' in reference else ''}k7"
    assert upstream.last.query == [("n", "3")]


async def test_a_step_that_fails_ends_the_operation() -> None:
    upstream = FakeUpstream(lambda request: Reply(503, {}, b"busy"))
    with pytest.raises(CallError, match="step one: HTTP 503: busy") as caught:
        await perform(running(opened(STEPS % ("one.key", "")), upstream), "chain")
    assert (caught.value.status, len(upstream.requests)) == (503, 1)


def test_a_lookup_needs_a_step_before_it() -> None:
    lookup = "- {name: three, type: lookup, index: four, match: a, lookupValue: $.one}"
    assert "unknown-step" in {each.code for each in opened(STEPS % ("one.key", lookup)).findings.all}


async def test_a_mock_asks_nobody() -> None:
    upstream = FakeUpstream(lambda request: {})
    one = running("fleet.yaml", upstream)
    assert await perform(one, "mocked", imo="7") == {"imo": "7", "crew": 12}
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("text", "form", "selector", "value"),
    [
        ("a\tb\n1\t2\n", "tsv", "", [{"a": "1", "b": "2"}]),
        ("a|b\n1|2\n", "psv", "", [{"a": "1", "b": "2"}]),
        ("a: [1, yes]", "yaml", "", {"a": [1, "yes"]}),
        ("<a x='1'><b>t</b>text</a>", "xml", "", {"x": "1", "b": "t"}),
        (
            "<table><tr><td>n</table><table class='r'><tr><th>a<b>b</b></th></tr><tr><td>1</td></tr></table>",
            "html", "table.r", [{"ab": "1"}],
        ),
        ("# A\n|x|\n|-|\n|1|\n# B\n|y|\n|--|\n|2|\n", "markdown", "# B", [{"y": "2"}]),
        ("just text", "markdown", "", {"content": "just text"}),
        ("", "json", "", None),
    ],
)  # fmt: skip
def test_formats(text: str, form: str, selector: str, value: Json) -> None:
    assert read(text.encode(), form, selector) == value


@pytest.mark.parametrize(
    ("text", "form"),
    [(b"{", "json"), (b"<a>", "xml"), (b"<!DOCTYPE a><a/>", "xml"), (b"\xff", "csv"), (b"a: [", "yaml")],
)  # fmt: skip
def test_what_is_not_in_its_format_is_told(text: bytes, form: str) -> None:
    with pytest.raises(FormatError):
        read(text, form)


STORE: Json = {"a": [{"n": "x", "p": 8}, {"n": "y", "p": 12, "isbn": 1}], "b": {"n": "z"}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$", STORE), ("$.", STORE), ("$.a[0].n", "x"), ("$['a'][1]['n']", "y"), ("$.a[-1].p", 12), ("$.a[9].p", None),
        ("$.a[*].n", ["x", "y"]), ("$..n", ["x", "y", "z"]), ("$.a[0:1].p", [8]), ("$.a[?(@.p > 10)].n", ["y"]),
        ("$.a[?(@.n == 'x')].p", [8]), ("$.a[?(@.isbn)].n", ["y"]), ("$['a','b']", [STORE["a"], STORE["b"]]),
        ("$.a[?(@.n != \"x\")].p", [12]), ("$.none.deep", None), ("$.b.*", ["z"]), ("$.a.n", None),
    ],
)  # fmt: skip
def test_paths(text: str, value: Json) -> None:
    assert path(text)(STORE) == value


@pytest.mark.parametrize(
    "text", ["a", "$a", "$..", "$.a[", "$.a[x]", "$.a[]", "$.a..", "$[?(1 == 1)]", "$.a[?(@.p > x)]"]
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(JsonPathError):
        path(text)


@pytest.mark.parametrize("text", ["{{", "{{a", "{{}}", "{{#each}}", "{{a b}}", "a }}"])
def test_what_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        names(text)


@pytest.mark.parametrize("text", ["/{", "/{a", "/a}", "/{}", "/{a b}"])
def test_what_is_no_path_template_is_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        path_names(text)


def test_templates_keep_types_and_never_lose_a_name() -> None:
    values = {"n": 1, "t": 'x"', "l": [1], "a.b": None}
    assert render("{{l}}", values.__getitem__) == [1]
    assert render("{{{t}}} {{n}} {{l}}", values.__getitem__) == 'x" 1 [1]'
    assert render_json('{"a\\"{{t}}":"{{n}}", "b":{{l}}}', values.__getitem__) == '{"a\\"x\\"":"1", "b":[1]}'
    with pytest.raises(TemplateError, match=r"\{\{none\}\} has no value"):
        render("{{none}}", values.__getitem__)


def test_a_request_is_plain() -> None:
    assert Request(method="GET", url="u").query == []


BARE = """\
naftiko: 1.0.0-alpha2
capability:
  consumes:
  - type: http
    namespace: up
    baseUri: https://api.inngest.com/v2
    resources:
    - name: hooks
      path: /apps/{appId}/hooks/{hookId}
      operations:
      - {name: gethook, method: GET}
      - name: createhook
        method: POST
        inputParameters: [{name: body, in: body, type: object, description: The body., required: true}]
  exposes:
  - type: mcp
    port: 1
    namespace: tools
    tools:
    - {name: get-hook, description: Get., call: up.gethook, outputParameters: [{type: object, mapping: $.}]}
    - {name: create-hook, description: Create., call: up.createhook, with: {body: tools.body}}
"""


async def test_what_nobody_declares_is_asked_of_the_caller() -> None:
    upstream = FakeUpstream(lambda request: [])
    one = running(opened(BARE), upstream)
    assert await perform(one, "get-hook", appId="a", hookid="b c") == []
    assert upstream.last.url.endswith("/apps/a/hooks/b%20c")
    with pytest.raises(CallError, match="hookId is required"):
        await perform(one, "get-hook", appId="a")
    await perform(one, "create-hook", appId="a", hookId="b", body=[1])
    assert (upstream.last.method, upstream.last.body) == ("POST", b"[1]")


def test_an_upstream_that_is_moved_keeps_its_path() -> None:
    from perdure.capability.running import Options, prepare
    from tests.support.upstreams import FOLDER

    given = {"EVENTS_TOKEN": "x"}
    for base_uris, placed in [
        ({}, "http://127.0.0.1:8288"),
        ({"events": "http://up:1"}, "http://up:1"),
        ({"": "http://up:1/base/"}, "http://up:1/base"),
    ]:
        options = Options(base_uris=base_uris, given=given)
        (one,) = prepare([FOLDER / "events-api.yaml"], options, {}, FakeUpstream(lambda request: {}))
        assert one.placed == {"events": placed}

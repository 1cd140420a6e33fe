"""Whatever a capability document holds, it is read with findings or refused in one line; nothing breaks its reader."""

from __future__ import annotations

import copy

import yaml
from hypothesis import given
from hypothesis import strategies as st

from perdure.capability.describing import describe
from perdure.capability.jsonpath import JsonPathError
from perdure.capability.jsonpath import parse as parse_path
from perdure.capability.loading import Opened, open_text
from perdure.capability.mcp import offering
from perdure.capability.openapi import document
from perdure.capability.rest import RestDoor
from perdure.capability.skills import skill
from perdure.capability.source import DocumentError, parse
from perdure.capability.templates import TemplateError, names, path_names, render_json
from perdure.model.json import InvalidJsonError, Json, decode
from tests.support.upstreams import FOLDER, FakeUpstream, faces, running

DOCUMENTS = [parse((FOLDER / name).read_text()).data for name in ("fleet.yaml", "events-api.yaml", "workflow.yaml")]
WORDS = st.sampled_from(
    [
        "",
        "{{",
        "{{a}}",
        "{{A_B}}",
        "$.",
        "$.a[",
        "rest.x",
        "tools.runId",
        "/{x}",
        "call",
        "http",
        "rest",
        "true",
        "x" * 99,
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70000) | st.floats(allow_nan=False) | st.text(max_size=8) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | WORDS, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A good document with one to three places that hold something else, or nothing."""
    made: Json = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 3))):
        node = made
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if not isinstance(node[key], dict | list) or draw(st.integers(0, 4)) == 0:
                if draw(st.booleans()):
                    node[key] = draw(VALUES)
                else:
                    del node[key]
                break
            node = node[key]
    text: str = yaml.safe_dump(made, sort_keys=False)
    return text


def opened(text: str) -> Opened:
    return open_text(text, "test.yaml", lambda location: (FOLDER / location).read_text())


@given(mutated())
def test_a_document_is_read_with_findings_whatever_it_holds(text: str) -> None:
    try:
        found = opened(text)
    except DocumentError:
        return
    found.bind({}, {}, needed=False)
    assert all(each.line > 0 and each.message for each in found.findings.all)
    describe(found)
    if any(each.severity == "error" for each in found.findings.all):
        return
    # What has no errors can be made into everything that is made of documents.
    document(found.capability)
    skill(found.capability, text)
    given_values = {name: "x" for bind in found.capability.binds for name in bind.keys}
    undeclared = [each for each in found.findings.all if each.code == "undeclared-bind"]
    if not undeclared:
        one = running(opened(text), FakeUpstream(lambda request: {}), **given_values)
        RestDoor(faces(one, "rest"))
        mcp = faces(one, "mcp")
        assert not mcp or offering(mcp).name


@given(
    st.text(max_size=40)
    | st.builds("{{{{{}}}}}".format, st.text(max_size=10))
    | st.builds("${}".format, st.text(max_size=30))
)
def test_texts_are_read_or_refused(text: str) -> None:
    for read, refused in ((names, TemplateError), (path_names, TemplateError), (parse_path, JsonPathError)):
        try:
            made = read(text)
        except refused:
            continue
        if read is parse_path and callable(made):
            made({"a": [1, {"b": "c"}]})


@given(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=4))
def test_a_body_of_json_stays_json(text: str, value: Json) -> None:
    made = render_json('{"q": "a{{text}}b", "v": {{value}}, "t": {{text}}}', {"text": text, "value": value}.__getitem__)
    assert decode(made) == {"q": f"a{text}b", "v": value, "t": text}


@given(st.text(max_size=60) | VALUES.map(yaml.safe_dump))
def test_yaml_is_read_or_refused_with_a_line(text: str) -> None:
    try:
        parse(text)
    except DocumentError as error:
        assert error.line >= 1


@given(st.binary(max_size=40))
def test_formats_are_read_or_refused(body: bytes) -> None:
    from perdure.capability.formats import FormatError, read

    for form in ("json", "xml", "csv", "tsv", "psv", "yaml", "html", "markdown"):
        try:
            read(body, form)
        except (FormatError, InvalidJsonError):
            continue

"""Reading documents: every version, and a finding with its line for whatever is wrong."""

from __future__ import annotations

import pytest

from perdure.capability.findings import CapabilityError
from perdure.capability.loading import findings_of, open_file
from perdure.capability.source import DocumentError, parse
from tests.support.upstreams import FOLDER, opened

GOOD = """\
naftiko: 1.0.0-alpha2
info: {label: Shop, description: Orders., created: '2026-05-06'}
binds:
- namespace: env
  keys: {TOKEN: SHOP_TOKEN}
capability:
  consumes:
  - type: http
    namespace: shop
    baseUri: https://shop.test/api
    authentication: {type: bearer, token: '{{TOKEN}}'}
    resources:
    - name: orders
      path: /orders/{{id}}
      operations:
      - name: get-order
        method: GET
        inputParameters:
        - {name: id, in: path}
  exposes:
  - type: mcp
    namespace: tools
    port: 9090
    tools:
    - name: get-order
      description: Get an order.
      inputParameters:
      - {name: id, type: string, description: The order.}
      call: shop.get-order
      with: {id: tools.id}
      outputParameters:
      - {type: string, mapping: $.state}
"""


def codes(text: str) -> dict[str, int]:
    """The findings of a document: their codes and lines."""
    document = opened(text)
    document.bind({}, {}, needed=False)
    return {each.code: each.line for each in document.findings.all}


def test_a_document_without_a_fault_has_no_findings() -> None:
    assert codes(GOOD) == {}


@pytest.mark.parametrize(
    ("old", "new", "code", "line"),
    [
        ("baseUri:", "baseuri:", "unknown-key", 10),
        ("      outputParameters:", "      outputParamters:", "unknown-key", 31),
        ("token: '{{TOKEN}}'", "token: '{{TOKEN'", "bad-template", 11),
        ("token: '{{TOKEN}}'", "tokn: '{{TOKEN}}'", "unknown-key", 11),
        ("{type: bearer", "{type: bear", "unknown-authentication", 11),
        ("/orders/{{id}}", "/orders/{{id}", "bad-template", 14),
        ("$.state", "state", "bad-path", 32),
        ("$.state", "'$.a['", "bad-path", 32),
        ("call: shop.get-order", "call: shop.get-orders", "unknown-target", 29),
        ("with: {id: tools.id}", "with: {idd: tools.id}", "unknown-parameter", 30),
        ("with: {id: tools.id}", "with: {id: tolls.id}", "unknown-prefix", 30),
        ("type: string, description", "type: strng, description", "unknown-type", 28),
        ("port: 9090", "port: many", "wrong-type", 23),
        ("port: 9090", "port: 70000", "bad-port", 23),
        ("in: path", "in: paths", "unknown-place", 19),
        ("method: GET", "method: FETCH", "unknown-method", 17),
        ("/orders/{{id}}", "/orders", "path-parameter", 16),
        ("namespace: tools", "namespace: shop", "duplicate-name", 21),
        ("      call: shop.get-order\n      with: {id: tools.id}\n", "      ref: a.b\n", "unknown-target", 29),
        ("method: GET", "method: GET\n        outputRawFormat: protobuf", "missing-key", 16),
        ("method: GET", "method: GET\n        body: {type: jsn, data: 1}", "unknown-body", 18),
        ("https://shop.test", "ftp://shop.test", "bad-uri", 10),
        ("https://shop.test", "https://me:sesame@shop.test", "bad-uri", 10),
        ("https://shop.test/api", "'https://['", "bad-uri", 10),
        ("https://shop.test/api", "https://sh op.test", "bad-uri", 10),
        ("- namespace: env", "- {namespace: b, location: 'vault://x'}\n- namespace: env", "unknown-location", 4),
        ("- namespace: env", "- {namespace: b, location: 'file://['}\n- namespace: env", "unknown-location", 4),
        ("  exposes:", "  - {import: a, from: 'file://['}\n  exposes:", "import-failed", 20),
        ("with: {id: tools.id}", "with: {id: '{{ord}}'}", "unknown-name", 30),
        ("with: {id: tools.id}", "with: {id: 'a-{{tools.ord}}'}", "unknown-name", 30),
        ("'{{TOKEN}}'", "'{{OTHER.TOKEN}}'", "undeclared-bind", 1),
        ("'{{TOKEN}}'", "'{{shop_token}}'", "undeclared-bind", 1),
        ("naftiko: 1.0.0-alpha2\n", "", "missing-key", 1),
        ("      call: shop", "      steps: [{name: a, type: script, file: x.py}]\n      call: shop", "not-run", 29),
        ("{type: string, mapping: $.state}", "{type: object, mapping: $.}", "whole-output", 32),
        ("{name: id, in: path}", "{name: id, in: path, type: string}", "unpublished-key", 19),
        ("/orders/{{id}}", "/orders/{id}", "single-brace", 16),
        ("keys: {TOKEN: SHOP_TOKEN}", "keys: {TOKEN: SHOP_TOKEN, MORE: MORE}", "unused-bind", 5),
        ("'{{TOKEN}}'", "sesame", "literal-secret", 11),
        ("naftiko: 1.0.0-alpha2", "naftiko: 7.0", "unknown-version", 1),
    ],
)  # fmt: skip
def test_a_fault_is_found_at_its_line(old: str, new: str, code: str, line: int) -> None:
    assert old in GOOD
    assert codes(GOOD.replace(old, new, 1)).get(code) == line


def test_credentials_without_a_value_keep_it_from_running() -> None:
    document = opened(GOOD.replace("'{{TOKEN}}'", "'{{shop_token}}'"))
    document.bind({"TOKEN": "a"}, {})
    with pytest.raises(CapabilityError, match="shop_token has no value: set shop_token in the environment"):
        document.findings.raise_errors()


@pytest.mark.parametrize("value", ["'{{id}}'", "'{{tools.id}}-{{TOKEN}}'", "'{{env.TOKEN}}'"])
def test_names_that_something_gives_a_value_to(value: str) -> None:
    assert codes(GOOD.replace("{id: tools.id}", f"{{id: {value}}}")) == {}


def test_a_misspelt_key_is_told_its_right_name() -> None:
    document = opened(GOOD.replace("      outputParameters:", "      outputParamters:"))
    with pytest.raises(CapabilityError, match=r"test.yaml:31: error: .*is it outputParameters\?"):
        document.findings.raise_errors()


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: [1", 1), ("", 1), ("a: 1\na: 2", 2), ("a: *b", 1), ("a: 1\n---\nb: 2", 2), ("? [a]\n: 1", 1)],
)
def test_what_is_no_document_is_told_with_its_line(text: str, line: int) -> None:
    with pytest.raises(DocumentError) as caught:
        parse(text)
    assert caught.value.line == line


def test_scalars_are_those_of_yaml_1_2() -> None:
    text = "[yes, 2026-05-06, 0o7, 1_000, 1e3, .5, ~, 'true', true, -7, 12:30:45, <<]"
    assert parse(text).data == [
        "yes", "2026-05-06", "0o7", "1_000", 1000.0, 0.5, None, "true", True, -7, "12:30:45", "<<",
    ]  # fmt: skip


def test_a_document_cannot_grow_without_end() -> None:
    with pytest.raises(DocumentError, match="nested too deeply"):
        parse("[" * 100 + "]" * 100)
    pairs = [(chr(place), chr(place + 1)) for place in range(ord("a"), ord("g"))]
    lines = [f"{name}: &{name} [{','.join(['*' + before] * 9)}]" for before, name in pairs]
    with pytest.raises(DocumentError, match="too large"):
        parse("\n".join(["a: &a [x,x,x,x,x,x,x,x,x]", *lines]))


@pytest.mark.parametrize("name", ["fleet.yaml", "events-api.yaml", "workflow.yaml"])
def test_documents_of_all_versions_have_no_errors(name: str) -> None:
    found = findings_of(FOLDER / name)
    assert [each for each in found if each.severity == "error"] == []


def test_lists_and_maps_are_the_same() -> None:
    fleet = open_file(FOLDER / "fleet.yaml").capability
    assert [each.namespace for each in fleet.consumers] == ["registry", "yard"]
    assert [each.kind for each in fleet.exposures] == ["rest", "mcp", "skill"]
    tools = fleet.exposures[1].tools
    assert [each.action.name for each in tools] == ["ship-with-crew", "mocked"]
    assert tools[0].hints == {"readOnly": True, "destructive": False, "idempotent": True}
    assert [each.name for each in tools[0].action.steps] == ["get-ship", "list-crew", "resolve"]


def test_an_import_that_leads_nowhere_is_found() -> None:
    text = GOOD.replace("  consumes:\n", "  consumes:\n  - {import: other, location: ./other.yaml}\n", 1)
    assert codes(text)["import-failed"] == 8
    document = opened(text, {"other.yaml": "naftiko: 1.0.0\nconsumes: []"})
    assert "other.yaml has no other in consumes" in str(document.findings.all[0])


def test_a_bind_that_is_needed_and_missing_is_an_error() -> None:
    document = opened(GOOD)
    document.bind({"SHOP_TOKEN": ""}, {})
    assert str(document.findings.all[0]) == (
        "test.yaml:5: error: TOKEN has no value: set SHOP_TOKEN in the environment, or give --set TOKEN=VALUE "
        "[missing-bind]"
    )
    for environment, given in [({"SHOP_TOKEN": "x"}, {}), ({}, {"TOKEN": "x"}), ({}, {"env.TOKEN": "x"})]:
        document = opened(GOOD)
        assert document.bind(environment, given)("env.TOKEN") == "x"
        assert document.findings.all == []


def test_binds_come_from_files_too() -> None:
    text = GOOD.replace("- namespace: env\n", "- namespace: env\n  location: file:///./s.yaml\n")
    document = opened(text, {"s.yaml": "SHOP_TOKEN: from file\n"})
    assert document.bind({}, {})("TOKEN") == "from file"
    document = opened(text)
    document.bind({}, {})
    assert {each.code for each in document.findings.all} == {"missing-file", "missing-bind"}
    document = opened(text.replace("file:///./s.yaml", "vault://secret/x"))
    document.bind({}, {})
    assert {each.code for each in document.findings.all} == {"unknown-location", "missing-bind"}


def test_the_default_of_a_parameter_may_be_an_unused_bind() -> None:
    document = open_file(FOLDER / "workflow.yaml")
    variables = document.bind({}, {"WORKFLOW_SIGNING_KEY": "s", "WORKFLOW_EVENT_KEY": "e"})
    assert variables.default_for("eventKey") == "e"
    assert variables.default_for("signingKey") is None


SHARED = """\
naftiko: 1.0.0-alpha2
consumes:
- type: http
  namespace: other
  baseUri: https://other.test
  inputParameters: [{name: X-Version, in: header, value: TOKEN}]
  resources: [{name: r, path: '/r/{{id}}', operations: [{name: o, method: GET}]}]
"""


def test_what_is_imported_is_checked_and_its_variables_are_needed() -> None:
    text = GOOD.replace("  consumes:\n", "  consumes:\n  - {import: other, location: ./other.yaml}\n", 1)
    text = text.replace("token: '{{TOKEN}}'", "token: plain")
    document = opened(text, {"other.yaml": SHARED})
    document.bind({}, {})
    assert [(each.code, each.line) for each in document.findings.all if each.severity == "error"] == [
        ("missing-bind", 5)
    ]
    document = opened(text, {"other.yaml": SHARED.replace("{{id}}", "{{id}")})
    assert ("bad-template", 8) in {(each.code, each.line) for each in document.findings.all}


def test_a_variable_that_no_bind_declares_is_one_of_the_environment() -> None:
    text = GOOD.replace("{{TOKEN}}", "{{env.OTHER_TOKEN}}")
    text = text.replace("binds:\n- namespace: env\n  keys: {TOKEN: SHOP_TOKEN}\n", "")
    document = opened(text)
    document.bind({}, {})
    assert [each.code for each in document.findings.all] == ["missing-bind", "undeclared-bind"]
    for environment, given in [({"OTHER_TOKEN": "x"}, {}), ({}, {"OTHER_TOKEN": "x"})]:
        document = opened(text)
        assert document.bind(environment, given)("env.OTHER_TOKEN") == "x"
        assert [each.code for each in document.findings.all] == ["undeclared-bind"]

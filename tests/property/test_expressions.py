"""Laws of the expression language: printing, partial evaluation, the index, and that nothing else is ever
raised.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.expressions import (
    UNKNOWN,
    EvaluationError,
    Expression,
    ExpressionError,
    compile,
    lookup,
    match_key,
)
from perdure.expressions.budget import Frame
from perdure.expressions.nodes import (
    Binary,
    Call,
    Comprehension,
    Conditional,
    Has,
    Index,
    ListNode,
    Literal,
    Logical,
    MapNode,
    Name,
    Node,
    Select,
    Unary,
)
from perdure.expressions.operators import equals
from perdure.expressions.parser import parse
from perdure.expressions.paths import path_steps, path_text
from perdure.expressions.printer import unparse
from perdure.expressions.values import Uint
from perdure.model.json import Json, encode

NOW = 1_780_000_000_000
FIELDS = ("id", "n", "s", "list", "obj", "a-b")

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0.0, -0.0, 0.5, 1.0, 2.0, -2.5, 1e300, 1e-7]),
    st.sampled_from(["", "a", "b", "5", "u1", "2026-01-02T03:04:05Z", 'q"\\\n\u2028é']),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(FIELDS), inner, max_size=3)),
    max_leaves=5,
)
documents = st.fixed_dictionaries({"data": st.dictionaries(st.sampled_from(FIELDS), values, max_size=6)})


def _literal(value: Json) -> Literal:
    kinds: dict[type[Json], str] = {
        type(None): "null",
        bool: "bool",
        int: "int",
        Uint: "uint",
        float: "double",
        str: "string",
        bytes: "bytes",
    }
    return Literal(kinds[type(value)], value)


literals = st.one_of(
    scalars.map(_literal),
    st.integers(0, 2**64 - 1).map(Uint).map(_literal),
    st.binary(max_size=4).map(_literal),
    st.text(max_size=4).map(_literal),
    st.floats(allow_nan=False, allow_infinity=False).map(_literal),
)


@st.composite
def paths(draw: st.DrawFn) -> Node:
    node: Node = Select(Name(draw(st.sampled_from(["event", "async", "async"]))), "data")
    for field in draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=2)):
        node = Index(node, Literal("string", field)) if field == "a-b" else Select(node, field)
    if draw(st.integers(0, 5)) == 0:
        node = Index(node, Literal("int", draw(st.integers(-1, 2))))
    return node


def _compound(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    few = st.lists(inner, min_size=2, max_size=3).map(tuple)
    methods = st.sampled_from(["contains", "startsWith", "endsWith"])
    functions = [
        "size",
        "int",
        "double",
        "string",
        "bool",
        "type",
        "dyn",
        "lowercase",
        "date",
        "timestamp",
        "uint",
    ]
    relations = ["==", "==", "==", "!=", "<", "<=", ">", ">=", "in", "+", "-", "*", "/", "%"]
    bodies = st.one_of(inner, st.builds(Binary, st.sampled_from(["==", "<", "+"]), st.just(Name("x")), inner))
    return st.one_of(
        st.builds(Binary, st.sampled_from(relations), inner, inner),
        st.builds(Logical, st.sampled_from(["&&", "&&", "||"]), few),
        st.builds(Unary, st.sampled_from(["!", "-"]), inner),
        st.builds(Conditional, inner, inner, inner),
        st.builds(lambda f, a: Call(None, f, (a,)), st.sampled_from(functions), inner),
        st.builds(lambda t, f, a: Call(t, f, (a,)), inner, methods, inner),
        st.builds(Has, paths()),
        st.builds(Index, inner, inner),
        st.builds(Select, inner, st.sampled_from(["id", "in", "package"])),
        st.builds(ListNode, st.lists(inner, max_size=2).map(tuple)),
        st.builds(lambda v: MapNode(((Literal("string", "id"), v),)), inner),
        st.builds(
            lambda kind, source, body: Comprehension(kind, source, "x", (body,)),
            st.sampled_from(["all", "exists", "exists_one", "filter", "map"]),
            inner,
            bodies,
        ),
        st.builds(lambda s, t, c: Comprehension("map", s, "x", (t, c)), inner, bodies, bodies),
        st.sampled_from([Call(None, "now", ()), Name("int"), Call(None, "duration", (Literal("string", "1h"),))]),
    )


trees = st.recursive(st.one_of(paths(), paths(), literals), _compound, max_leaves=6)
# What people write: comparisons of paths and literals under logic.
_comparisons = st.builds(
    Binary,
    st.sampled_from(["==", "==", "!=", "<", ">="]),
    st.one_of(paths(), literals),
    st.one_of(paths(), literals),
)
conditions = st.recursive(
    _comparisons,
    lambda inner: st.one_of(
        st.builds(Logical, st.sampled_from(["&&", "&&", "||"]), st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Unary, st.just("!"), inner),
    ),
    max_leaves=4,
)


@dataclass
class Outcome:
    """A value, or that there was none."""

    value: Json = None
    failed: bool = False


def outcome(expression: Expression, scope: dict[str, Json]) -> Outcome:
    try:
        return Outcome(expression.evaluate(scope, now=NOW))
    except EvaluationError as error:
        assert str(error)
        return Outcome(failed=True)


def _compiled(tree: Node) -> Expression | None:
    """None when a generated literal is one that compile rejects (a bad time)."""
    try:
        return compile(unparse(tree))
    except ExpressionError as error:
        assert "time" in error.reason or "date" in error.reason or "keys" in error.reason, error
        return None


@given(st.one_of(trees, conditions))
def test_printed_text_parses_to_the_same_tree(tree: Node) -> None:
    assert parse(unparse(tree)) == tree


@settings(max_examples=300)
@given(trees, documents, documents)
def test_only_evaluation_errors_come_out_and_results_are_json(tree: Node, event: Json, other: Json) -> None:
    expression = _compiled(tree)
    if expression is None:
        return
    result = outcome(expression, {"event": event, "async": other})
    if not result.failed:
        encode(result.value)
    for ask in (expression.truthy, expression.key, expression.number):
        try:
            ask({"event": event, "async": other}, now=NOW)
        except EvaluationError:
            assert result.failed or expression.evaluate({"event": event, "async": other}, now=NOW) is not None


@settings(max_examples=400)
@given(st.one_of(trees, conditions), documents, documents)
def test_what_partial_evaluation_leaves_means_the_same(tree: Node, event: Json, other: Json) -> None:
    expression = _compiled(tree)
    if expression is None:
        return
    whole = outcome(expression, {"event": event, "async": other})
    partial = expression.partial(event, now=NOW)
    if whole.failed:
        return
    left = compile(partial.source).evaluate({"async": other}, now=NOW)
    assert encode(left) == encode(whole.value), partial.source
    if partial.constant is not None:
        assert partial.constant == expression.truthy({"event": event, "async": other}, now=NOW)


@settings(max_examples=300)
@given(conditions, documents, documents)
def test_the_index_finds_every_match(tree: Node, event: Json, other: Json) -> None:
    expression = compile(unparse(tree))
    partial = expression.partial(event, now=NOW)
    if outcome(expression, {"event": event, "async": other}).value is not True:
        return
    for path, value in partial.equalities:
        assert value is not None
        assert match_key(lookup(other, path)) == match_key(value)
    if partial.index is not None:
        path, key = partial.index
        assert match_key(lookup(other, path)) == key


@given(st.one_of(scalars, values), st.one_of(scalars, values))
def test_match_keys_are_equal_exactly_when_values_are(left: Json, right: Json) -> None:
    first, second = match_key(left), match_key(right)
    if first is not None and second is not None:
        assert (first == second) == equals(Frame({}, NOW, 0), left, right)
    elif first is not None or second is not None:
        assert not equals(Frame({}, NOW, 0), left, right)


@given(st.lists(st.one_of(st.text(max_size=5), st.integers(0, 2**40)), min_size=1, max_size=4))
def test_a_path_survives_being_written_down(steps: list[str | int]) -> None:
    assert path_steps(path_text(tuple(steps))) == tuple(steps)


@given(documents, st.lists(st.sampled_from(FIELDS), min_size=1, max_size=2))
def test_lookup_sees_what_an_expression_sees(document: Json, fields: list[str]) -> None:
    path = path_text(("data", *fields))
    found = lookup(document, path)
    seen = compile(f"[async.{path}, has(async.{path})]").evaluate({"async": document}, now=NOW)
    assert seen == ([None, False] if found is UNKNOWN else [found, True])


_fragments = st.one_of(
    st.sampled_from(["event", ".", "data", "[", "]", "(", ")", "==", "&&", "||", "!", "-", "?", ":", ",", "{", "}"]),
    st.sampled_from(["'a'", "1", "1.5", "0x", "1u", "r'", '"', '"""', "\\", "b'\\xff'", "//", "\n", "in", "-1"]),
    st.sampled_from(["matches('a*')", ".all(x, x)", "has(", "duration('", "a.b", "null"]),
)


@settings(max_examples=400)
@given(st.one_of(st.text(max_size=30), st.lists(_fragments, max_size=14).map("".join)))
def test_arbitrary_text_raises_expression_errors_only(text: str) -> None:
    try:
        expression = compile(text)
    except ExpressionError as error:
        assert str(error)
        assert 0 <= error.position <= len(text)
        return
    outcome(expression, {"event": {"data": {}}, "async": {}})
    assert parse(unparse(parse(text))) == parse(text)


@settings(max_examples=300)
@given(
    st.text(alphabet="ab01^$.*+?()[]{}|\\dwsbBAzQE,-:i<P=!", max_size=16),
    st.text(alphabet="ab01 \n", max_size=8),
)
def test_arbitrary_patterns_raise_expression_errors_only(pattern: str, subject: str) -> None:
    expression = compile("event.s.matches(event.p)")
    result = outcome(expression, {"event": {"s": subject, "p": pattern}})
    assert result.failed or isinstance(result.value, bool)

"""What `compile` refuses, and how it says so."""

from __future__ import annotations

import pytest

from perdure.expressions import EvaluationError, ExpressionError, compile
from perdure.expressions.regex import compile_pattern


@pytest.mark.parametrize(
    ("source", "position", "reason"),
    [
        ("", 0, "expected a value, found the end"),
        ("event.", 6, "a field's name after the dot"),
        ("event.data.n = 5", 13, "compare with `==`"),
        ("event.a & event.b", 8, "write `&&`"),
        ("(event.a", 8, "to close the parenthesis"),
        ("[1, 2", 5, "or `,` after an item"),
        ("{'a' 1}", 5, "after a map's key"),
        ("a ? 1", 5, "between the two results"),
        ("1 2", 2, "an operator or the end"),
        ("'abc", 0, "the string is not closed"),
        (r"'\q'", 1, "unknown escape \\q"),
        (r"b'\u0041'", 2, "use \\x"),
        ("9223372036854775808", 0, "does not fit 64 bits"),
        ("18446744073709551616u", 0, "does not fit 64 bits"),
        ("1e999", 0, "too large"),
        ("12abc", 2, "a number cannot be followed by 'a'"),
        ("for", 0, "reserved word"),
        ("size(1,)", 7, "an argument"),
        ("evnt.data.n", 0, "did you mean `event`?"),
        ("user.id == 1", 0, "the variables are `async`, `event`, `vars`"),
        ("[1].map(x, y)", 11, "`y` is not known"),
        ("lower('A')", 0, "there is no function `lower`; did you mean `lowercase`?"),
        ("event.a.startswith('x')", 8, "did you mean `startsWith`?"),
        ("event.a.lowercase()", 8, "write lowercase(x)"),
        ("contains('a', 'b')", 0, "write x.contains(...)"),
        ("exists(x, x)", 0, "write x.exists(...)"),
        ("event.a.split(' ')", 8, "there is no method `split`"),
        ("lowercase('a', 'b')", 0, "takes 1 argument, not 2"),
        ("matches('a')", 0, "takes 2 arguments, not 1"),
        ("now().getHours('a', 'b')", 6, "takes 0 or 1 arguments, not 2"),
        ("has(event)", 0, "has() takes one path"),
        ("event.l.all(x)", 8, "takes a variable and a condition"),
        ("event.l.all(x.y, true)", 13, "a plain variable name"),
        ("event.l.all(int, true)", 8, "a type's name"),
        ("{true: 1}", 1, "keys are strings or integers"),
        ("duration('90')", 9, "write for example '90s'"),
        ("now_plus('1 hour')", 9, "is not a duration"),
        ("timestamp('yesterday')", 10, "is not a time"),
        ("timestamp('2026-02-30T00:00:00Z')", 10, "is not a time"),
        ("date('soon')", 5, "is not a date"),
        ("event.a.matches('(')", 16, "a `)` is missing"),
        ("event.a.matches('(?=a)')", 16, "lookaround"),
        (r"event.a.matches('(a)\\1')", 16, "backreferences are not supported"),
    ],
)
def test_rejected_with_a_reason_at_the_place(source: str, position: int, reason: str) -> None:
    variables = frozenset({"event", "async", "vars", "a"} if source.startswith("a ?") else {"event", "async", "vars"})
    with pytest.raises(ExpressionError) as caught:
        compile(source, variables=variables)
    assert reason in str(caught.value)
    assert caught.value.position == position
    assert not isinstance(caught.value, EvaluationError)


def test_the_caret_stands_under_the_fault() -> None:
    with pytest.raises(ExpressionError) as caught:
        compile("event.a == 1 &&\n  evnt.b == 2")
    assert str(caught.value).splitlines()[1:] == ["    evnt.b == 2", "    ^"]
    assert "(line 2, column 3)" in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "(" * 5000 + "1" + ")" * 5000, "[" * 5000, "!" * 5000 + "true", "-" * 5000 + "1", "1" + "+1" * 5000,
        "event" + ".a" * 5000, "event" + "[0]" * 5000, "true ? " * 5000, "{1:" * 5000, "size(" * 5000,
        "event" + ".map(x, x" * 2000, "x" * 70_000,
    ],
)  # fmt: skip
def test_hostile_text_is_refused_without_running_out_of_stack(source: str) -> None:
    with pytest.raises(ExpressionError):
        compile(source)


def test_long_flat_conditions_are_fine() -> None:
    scope = {"event": {"id": "x1999"}}
    assert compile(" || ".join(f"event.id == 'x{i}'" for i in range(2000))).truthy(scope, now=0)
    assert compile(f"event.id in {[f'x{i}' for i in range(2000)]}").truthy(scope, now=0)


def test_compiling_twice_gives_the_same_object() -> None:
    assert compile("event.a == 1") is compile("event.a == 1")


def test_variables_are_chosen_by_the_caller() -> None:
    expression = compile("user.id", variables=frozenset({"user"}))
    assert expression.evaluate({"user": {"id": 1}}, now=0) == 1
    assert expression.variables == {"user"}
    with pytest.raises(ExpressionError):
        compile("event.id", variables=frozenset({"user"}))


def _matches(pattern: str, subject: str) -> bool:
    return compile_pattern(pattern).search(subject, lambda units: None)


@pytest.mark.parametrize(
    ("pattern", "subject", "found"),
    [
        ("", "", True), ("a", "xay", True), ("^a", "xa", False), ("a$", "a\n", False),
        ("(?m)a$", "a\nb", True), ("(?m)^b$", "a\nb", True), (".", "\n", False), ("(?s).", "\n", True),
        ("a|b", "b", True), ("^(ab|cd)*$", "abcdab", True), ("^(ab|cd)*$", "abc", False),
        ("^a{2,3}$", "aaaa", False), ("^a{2,3}$", "aaa", True), ("^a{2,}$", "aaaaa", True),
        ("^a{2}?$", "aa", True), ("a{,2}", "a{,2}", True), ("^[a-c]+$", "abc", True),
        ("^[^a-c]$", "b", False), ("[]]", "]", True), ("[a-]", "-", True), (r"[\d-]", "-", True),
        (r"[\]]", "]", True), ("[[:alpha:]]", "x", True), ("[[:^alpha:]]", "x", False),
        (r"^\d+$", "42", True), (r"\d", "٣", False), (r"\w", "é", False), (r"\W", "é", True),
        (r"[^\W]", "é", False), (r"\bfoo\b", "a foo b", True), (r"\bfoo\b", "afoob", False),
        (r"\Boo", "foo", True), (r"\Aab\z", "ab", True), (r"\Qa.b\E$", "a.b", True),
        (r"\Qa.b\E", "axb", False), (r"\x41\x{42}", "AB", True), ("(?i)HeLLo", "hEllO", True),
        ("(?i)[a-c]", "B", True), ("(?i:a)b", "AB", False), ("a(?i)b", "aB", True),
        ("(?P<x>a)(?<y>b)(?:c)", "abc", True), ("(a*)*b", "a" * 50, False),
        ("^(a+)+$", "a" * 50 + "b", False), (r"^[^@]+@([a-z]+\.)+[a-z]{2,}$", "x@mail.example.org", True),
        ("a??b", "b", True), ("()*", "", True), ("é+", "éé", True), (r"a\.b", "axb", False),
        ("(?-i)a", "a", True), ("a||b", "", True),
    ],
)  # fmt: skip
def test_regular_expressions(pattern: str, subject: str, found: bool) -> None:
    assert _matches(pattern, subject) is found


@pytest.mark.parametrize(
    "pattern",
    [
        "(", ")", "a)", "[", "[]", "[b-a]", "*", "+a", "a**", "a{2}{3}", "a{3,2}", "a{1001}", "\\", r"\1",
        r"\k", r"\pL", "(?=a)", "(?!a)", "(?<=a)", "(?<!a)", "(?>a)", "(?P=x)", "(?#c)", "(?", "(?i",
        "((a{100}){100}){100}", "(((){1000}){1000})*", "[[:nope:]]", "(" * 60 + ")" * 60, "a" * 3000,
        r"[\d-z]x[z-\d]",
    ],
)  # fmt: skip
def test_patterns_that_are_refused(pattern: str) -> None:
    with pytest.raises(EvaluationError, match="bad regular expression"):
        compile_pattern(pattern)


def test_a_dangerous_pattern_takes_linear_time() -> None:
    spent: list[int] = []
    assert not compile_pattern("(a|aa)+(a*)*$").search("a" * 20_000 + "b", spent.append)
    assert sum(spent) < 2000

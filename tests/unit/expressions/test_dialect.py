"""The rules of the dialect, one table a rule."""

from __future__ import annotations

import pytest

from perdure.expressions import EvaluationError, compile
from perdure.model.json import Json

NOW = 1_780_000_000_000  # 2026-05-28T20:26:40Z
SCOPE: Json = {
    "event": {
        "name": "app/user.created",
        "ts": 1_700_000_000_000,
        "data": {
            "n": 5, "f": 2.5, "s": "5", "title": "Hello World", "uni": "héllo", "empty": "", "zero": 0,
            "yes": True, "no": False, "nul": None, "tags": ["a", "b", "c"], "list": [1, 2, 3], "a-b": 7,
            "in": 1, "obj": {"k": "v", "n": {"deep": 3}}, "items": [{"sku": "x", "qty": 2}, {"sku": "y"}],
            "at": "2026-01-02T03:04:05.678Z", "day": "2026-01-02", "huge": 10**400, "id": "u1",
        },
    },
    "async": {"data": {"id": "u1"}},
    "vars": {"limit": 3},
}  # fmt: skip


def ev(expression: str) -> Json:
    return compile(expression).evaluate(SCOPE, now=NOW)


def table(*rows: tuple[str, Json]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("expression", "value"), rows, ids=[row[0] for row in rows])


def same(found: Json, wanted: Json) -> None:
    assert found == wanted
    assert type(found) is type(wanted)


@table(
    ("1", 1), ("-1", -1), ("0x1F", 31), ("-0x10", -16), ("7u", 7), ("0xFFu", 255), ("1.5", 1.5), (".5", 0.5),
    ("1e3", 1000.0), ("2E-1", 0.2), ("9223372036854775807", 2**63 - 1), ("-9223372036854775808", -(2**63)),
    ("18446744073709551615u", 2**64 - 1), ("true", True), ("null", None), ("'a'", "a"), ('"a"', "a"),
    (r"'\n\t\"\'\\\x41\u00e9\U0001F600\101\?'", "\n\t\"'\\Aé😀A?"), (r"r'\d'", "\\d"), ('R"a\\"', "a\\"),
    ("'''a'b\nc'''", "a'b\nc"), ('"""x"y"""', 'x"y'), ("b'a'", "YQ=="), (r"b'\xff\101'", "/0E="),
    ("b'é'", "w6k="), (r"br'\x'", "XHg="), ("[1, 'a', [null],]", [1, "a", [None]]),
    ("{'a': 1, 2: 'b',}", {"a": 1, "2": "b"}), ("[]", []), ("{}", {}), ("1 // note\n + 2", 3), (" \t\n1", 1),
    ("--5", 5), ("!!true", True),
)  # fmt: skip
def test_literals(expression: str, value: Json) -> None:
    same(ev(expression), value)


@table(
    ("event.data.missing", False), ("event.nope.deep.er", False), ("event.data.n.x", False),
    ("nope in [1]", False), ("event.data.list[9]", False), ("event.data.list[-1]", False),
    ("event.data.list['a']", False), ("event.data.missing == null", True),
    ("null == event.data.missing", True), ("event.data.missing != null", False),
    ("event.data.missing == 'a'", False), ("event.data.missing == 0", False),
    ("event.data.missing == ''", False), ("event.data.missing == false", False),
    ("event.data.missing != 'a'", True), ("event.data.missing == async.data.missing", False),
    ("event.data.missing != async.data.missing", True), ("event.data.missing < 5", True),
    ("event.data.missing <= 'a'", True), ("event.data.missing > 5", False),
    ("event.data.missing >= null", False), ("5 < event.data.missing", False),
    ("5 <= event.data.missing", False), ("5 > event.data.missing", True),
    ("true >= event.data.missing", True), ("event.data.missing < async.data.missing", True),
    ("event.data.missing > async.data.missing", False), ("event.data.missing + 'x'", "x"),
    ("'x' + event.data.missing", "x"), ("event.data.missing + 5", 5),
    ("event.data.missing + async.data.missing", False), ("event.data.missing - 1", False),
    ("event.data.missing - 1 > 0", False), ("-event.data.missing", False), ("size(event.data.missing)", 0),
    ("event.data.missing.size()", 0), ("event.data.missing in [1, null]", False),
    ("1 in event.data.missing", False), ("event.data.missing.contains('x')", False),
    ("'x'.startsWith(event.data.missing)", False), ("event.data.missing.matches('.*')", False),
    ("lowercase(event.data.missing)", False), ("lowercase(event.data.missing) == 'a'", False),
    ("int(event.data.missing) == 0", False), ("timestamp(event.data.missing) < now()", True),
    ("event.data.missing.all(x, true)", False), ("event.data.missing.exists(x, true)", False),
    ("event.data.missing.exists_one(x, true)", False), ("size(event.data.missing.filter(x, true))", 0),
    ("[event.data.missing]", [None]), ("{'a': event.data.missing}", {"a": None}),
    ("event.data.items.map(i, i.qty)", [2, None]), ("has(event.data.n)", True),
    ("has(event.data.nul)", True), ("has(event.data.missing)", False), ("has(event.data['a-b'])", True),
    ("has(event.data.missing.deep)", False),
)  # fmt: skip
def test_missing_values(expression: str, value: Json) -> None:
    same(ev(expression.replace("nope in", "event.nope in")), value)


@table(
    ("null == null", True), ("null == 0", False), ("null == ''", False), ("null == false", False),
    ("null < 5", True), ("null < -5", False), ("null < 'foo'", True), ("'foo' > null", True),
    ("null <= 0", True), ("null < 0", False), ("null >= ''", True), ("event.data.nul == null", True),
    ("null + 5", 5), ("'a' + null", "a"), ("null + null", None), ("event.data.nul", None), ("size(null)", 0),
    ("event.data.nul.deep == null", True), ("null in [null]", True), ("!null", True), ("null || 'a'", "a"),
    ("null && 'a'", None),
)  # fmt: skip
def test_null(expression: str, value: Json) -> None:
    same(ev(expression), value)


@table(
    ("1 == 1.0", True), ("1u == 1", True), ("1 == true", False), ("'1' == 1", False), ("true == true", True),
    ("9007199254740993 == 9007199254740992.0", False), ("[1, [2.0]] == [1.0, [2]]", True),
    ("[1] == [1, 2]", False), ("{'a': 1, 'b': [null]} == {'b': [null], 'a': 1.0}", True),
    ("{'a': 1} == {'b': 1}", False), ("[true] == [1]", False),
    ("event.data.obj == {'k': 'v', 'n': {'deep': 3}}", True), ("b'a' == 'a'", False),
    ("timestamp('2026-01-02T00:00:00Z') == date('2026-01-02')", True),
    ("duration('60s') == duration('1m')", True), ("1 < 1.5", True), ("'a' < 'b'", True), ("'Z' < 'a'", True),
    ("false < true", True), ("b'a' < b'b'", True), ("duration('2m') > duration('1m')", True),
    ("1 in [1.0]", True), ("'1' in [1]", False), ("'k' in {'k': 1}", True), ("true in {1: 'a'}", False),
    ("2 in {2: 'a'}", True), ("1 < 2 == true", True),
)  # fmt: skip
def test_comparisons(expression: str, value: Json) -> None:
    same(ev(expression), value)


@table(
    ("event.data.n + 1", 6), ("5 / 2", 2.5), ("6 / 2", 3), ("6.0 / 2", 3.0), ("-7 / 2", -3.5), ("5 % 2", 1),
    ("-5 % 2", -1), ("5 % -2", 1), ("7.5 % 2", 1.5), ("2 * 3 + 4", 10), ("2 + 3 * 4", 14), ("10 - 2 - 3", 5),
    ("1 + 0.5", 1.5), ("3u * 2u", 6), ("2u - 1", 1), ("'a' + 'b'", "ab"), ("[1] + [2]", [1, 2]),
    ("b'a' + b'b'", "YWI="), ("'a' + 5", "a5"), ("5 + 'a'", "5a"), ("'a' + 5.0", "a5"),
    ("'a' + 12.5", "a12.5"), ("'a' + event.ts", "a1700000000000"), ("'a' + true", "atrue"),
    ("1 + true", "1true"), ("'x' + event.data.tags", "x[a b c]"),
    ("'x' + {'b': 1, 'a': [true, null]}", "xmap[a:[true null] b:1]"),
    ("date('2026-01-01') + duration('36h')", "2026-01-02T12:00:00Z"),
    ("duration('1h') + date('2026-01-01')", "2026-01-01T01:00:00Z"),
    ("date('2026-01-02') - date('2026-01-01')", "86400s"),
    ("date('2026-01-02') - duration('1d')", "2026-01-01T00:00:00Z"),
    ("duration('1h') - duration('90m')", "-1800s"), ("[[now(), 1u]][0]", ["2026-05-28T20:26:40Z", 1]),
    ("'at ' + date('2026-01-01')", "at 2026-01-01T00:00:00Z"),
)  # fmt: skip
def test_arithmetic(expression: str, value: Json) -> None:
    same(ev(expression), value)


@table(
    ("event.data.missing || event.data.title", "Hello World"), ("'' || 0 || 'x'", "x"), ("0 || ''", ""),
    ("'a' && 'b'", "b"), ("'' && 'b'", ""), ("1 && 2 && 0 && 3", 0), ("[] && 'x'", "x"), ("{} ? 1 : 2", 1),
    ("0 ? 1 : 2", 2), ("'a' ? 1 : 2", 1), ("event.data.missing ? 1 : 2", 2), ("true ? false ? 1 : 2 : 3", 2),
    ("false ? 1 : true ? 2 : 3", 2), ("true || '5' > 3", True), ("false && '5' > 3", False),
    ("'5' > 3 || true", True), ("true || false && false", True), ("!event.data.missing", True),
    ("!has(event.data.missing)", True), ("!(event.data.n == 5)", False),
    ("event.data.no || event.data.yes", True),
)  # fmt: skip
def test_logic_returns_operands(expression: str, value: Json) -> None:
    same(ev(expression), value)


@table(
    ("event.data.tags.all(x, x < 'd')", True), ("[].all(x, false)", True), ("[].exists(x, true)", False),
    ("event.data.items.exists(i, i.sku == 'y')", True), ("event.data.list.exists_one(x, x > 2)", True),
    ("event.data.list.exists_one(x, x > 1)", False), ("event.data.list.filter(x, x > 1)", [2, 3]),
    ("event.data.list.map(x, x * 2)", [2, 4, 6]), ("event.data.list.map(x, x > 1, x * 2)", [4, 6]),
    ("event.data.obj.map(k, k)", ["k", "n"]), ("{1: 2}.all(k, k == 1)", True),
    ("[1, 'a'].exists(x, x > 0)", True), ("['a', 1].exists(x, x > 0)", True),
    ("[[1, 2], [3]].map(x, x.map(y, y + size(x)))", [[3, 4], [4]]),
    ("[1].map(x, [2].map(x, x)[0] + x)", [3]), ("[1].map(event, event + 1)", [2]),
    ("[1, 2].map(x, [10].map(x, [x].map(y, x + y)[0])[0])", [20, 20]),
    ("['b', 'a'].map(x, [x].map(y, [1, 3].filter(z, z > 2).map(z, x + y + z)))", [[["bb3"]], [["aa3"]]]),
)  # fmt: skip
def test_macros(expression: str, value: Json) -> None:
    same(ev(expression), value)


@table(
    ("size('héllo')", 5), ("'abc'.size()", 3), ("size(b'é')", 2), ("event.data.tags.size()", 3),
    ("size({'a': 1})", 1), ("event.name.startsWith('app/')", True), ("event.name.endsWith('created')", True),
    ("'abc'.contains('bc')", True), ("matches('abc', '^a.c$')", True), ("'abc'.matches('b')", True),
    ("int('-12')", -12), ("int(2.9)", 2), ("int(-2.9)", -2), ("int(date('1970-01-01 00:01'))", 60),
    ("uint('7')", 7), ("double('2.5')", 2.5), ("double(5)", 5.0), ("string(5.0)", "5"),
    ("string(event.ts)", "1700000000000"), ("string(true)", "true"), ("string(b'hi')", "hi"),
    ("string(duration('90s'))", "90s"), ("string(1.5)", "1.5"), ("bytes('é')", "w6k="),
    ("bool('true')", True), ("bool('f')", False), ("type(5)", "int"), ("type(5.0) == double", True),
    ("type('a') == string", True), ("type([]) == list", True), ("type({}) == map", True),
    ("type(null) == null_type", True), ("type(1u) == uint", True), ("type(type(1)) == type", True),
    ("type(now()) == google.protobuf.Timestamp", True),
    ("type(duration('1s')) == google.protobuf.Duration", True), ("dyn(5)", 5), ("lowercase('ÀB')", "àb"),
    ("uppercase('b')", "B"), ("b64decode('aGkgdGhlcmUh')", "hi there!"),
    ("json_parse('[1, {\"a\": 2}]')[1].a", 2), ("now()", "2026-05-28T20:26:40Z"),
    ("now_plus('24h') - now()", "86400s"), ("now_minus('1d') < now()", True),
    ("now() > date('2020-01-01')", True), ("duration('1.5s')", "1.5s"),
    ("duration('-1h30m') < duration('0')", True),
)  # fmt: skip
def test_functions(expression: str, value: Json) -> None:
    same(ev(expression), value)


@table(
    ("timestamp(event.data.at)", "2026-01-02T03:04:05.678Z"),
    ("timestamp(event.data.at).getMilliseconds()", 678),
    ("timestamp('2026-01-02T03:04:05+02:00')", "2026-01-02T01:04:05Z"),
    ("timestamp(1700000000)", "2023-11-14T22:13:20Z"), ("timestamp(event.ts)", "2023-11-14T22:13:20Z"),
    ("date(event.data.day)", "2026-01-02T00:00:00Z"), ("date('2026/1/2 3:04')", "2026-01-02T03:04:00Z"),
    ("date('Mon, 02 Jan 2006 15:04:05 -0700')", "2006-01-02T22:04:05Z"),
    ("date('2026-12-31').getFullYear()", 2026), ("date('2026-12-31').getMonth()", 11),
    ("date('2026-12-31').getDate()", 31), ("date('2026-12-31').getDayOfMonth()", 30),
    ("date('2026-12-31').getDayOfYear()", 364), ("date('2026-11-22').getDayOfWeek()", 0),
    ("timestamp(event.data.at).getHours()", 3), ("timestamp(event.data.at).getMinutes()", 4),
    ("timestamp(event.data.at).getSeconds()", 5),
    ("timestamp('2026-07-01T23:30:00Z').getDate('Europe/Paris')", 2),
    ("timestamp(event.data.at).getHours('-02:30')", 0), ("duration('90m').getHours()", 1),
    ("duration('-90s').getMinutes()", -1), ("duration('1.5s').getMilliseconds()", 1500),
    ("timestamp('0001-01-01T00:00:00Z')", "0001-01-01T00:00:00Z"),
    ("timestamp('9999-12-31T23:59:59.999999999Z')", "9999-12-31T23:59:59.999999999Z"),
)  # fmt: skip
def test_time(expression: str, value: Json) -> None:
    same(ev(expression), value)


@pytest.mark.parametrize(
    "expression",
    [
        "event.data.s > 3", "'a' < 1", "true < 1", "[1] < [2]", "null < [1]", "'a' - 'b'", "'a' * 2",
        "true + true", "{} + {}", "now() + now()", "1 / 0", "1 % 0", "1.0 / 0.0", "9223372036854775807 + 1",
        "-9223372036854775807 - 2", "9223372036854775807 * 2", "-(-9223372036854775807 - 1)", "0u - 1u",
        "18446744073709551615u + 1u", "2.0 * 1e308", "event.data.huge + 1", "event.data.huge * 1.0",
        "double(event.data.huge)", "int(event.data.huge)", "!5", "!'a'", "-'a'", "-true", "1 in 'abc'",
        "1 in null", "null.contains('a')", "lowercase(5)", "size(5)", "int('5.5')", "int('1_0')", "int('x')",
        "int(true)", "int(1e300)", "uint(-1)", "double('x')", "double('NaN')", "double('1e999')",
        "bool('yes')", "bool(1)", "string(null)", "string([1])", r"string(b'\xff')", "b64decode('!!')",
        "b64decode('/w==')", "json_parse('{')", "timestamp(1e300)", "timestamp(true)",
        "date(event.data.title)", "'a'.getHours()", "now().getHours('Mars/Base')",
        "now().getHours('+99:00')", "duration('1h').getFullYear()", "duration('290y' + '')",
        "duration('200000h') + duration('2500000h')", "timestamp('9999-12-31T00:00:00Z') + duration('48h')",
        "{'a': 1, 'a': 2}", "{1: 1, event.data.n - 4: 2}", "{event.data.f: 1}", "{event.data.yes: 1}",
        "5.all(x, true)", "'abc'.exists(c, c == 'a')", "null.map(x, x)", "'a'.matches('(' + '')",
        "[1, 'a'].all(x, x > 0)", "['a', 'b'].exists(x, x > 0)",
    ],
)  # fmt: skip
def test_what_is_not_defined_is_an_error(expression: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        ev(expression)
    assert caught.value.source == expression
    assert "^" in str(caught.value)


@pytest.mark.parametrize(
    "expression",
    [
        "event.l.all(x, event.l.all(y, x + y >= 0))",
        "event.l.map(x, event.s + event.s)",
        "event.l.map(x, event.l)",
        "'' + event.l.map(x, event.l)",
        "event.l.exists(x, event.s.contains('ab' + x))",
        "event.l.exists(x, event.deep == event.other)",
        "event.s.matches('(a|aa)+b|' + 'a{900}b')",
        "event.l.all(x, event.l == event.l)",
        "event.deep == event.other",
        "[event.deep]",
    ],
)
def test_no_expression_eats_the_machine(expression: str) -> None:
    deep: Json = {}
    for _ in range(5000):
        deep = {"a": deep}
    other: Json = {}
    for _ in range(5000):
        other = {"a": other}
    scope = {"event": {"l": list(range(3000)), "s": "ab" * 200_000, "deep": deep, "other": other}}
    with pytest.raises(EvaluationError):
        compile(expression).evaluate(scope, now=NOW)


def test_truth() -> None:
    for expression, wanted in [
        ("event.data.missing", False), ("null", False), ("0", False), ("0.0", False), ("''", False),
        ("false", False), ("1", True), ("'false'", True), ("[]", True), ("{}", True), ("now()", True),
    ]:  # fmt: skip
        assert compile(expression).truthy(SCOPE, now=NOW) is wanted, expression


def test_key() -> None:
    for expression, wanted in [
        ("event.data.missing", None), ("null", None), ("false", None), ("true", "true"),
        ("event.data.id", "u1"), ("5", "5"), ("5.0", "5"), ("2.5", "2.5"), ("''", ""), ("0", "0"),
        ("[1, 2.0, 'a']", '[1,2,"a"]'), ("{'b': 1, 'a': null}", '{"a":null,"b":1}'),
        ("event.data.id + '-' + event.data.n", "u1-5"), ("event.data.missing || event.data.id", "u1"),
        ("date('2026-01-01')", "2026-01-01T00:00:00Z"),
    ]:  # fmt: skip
        assert compile(expression).key(SCOPE, now=NOW) == wanted, expression


def test_number() -> None:
    for expression, wanted in [
        ("120", 120.0), ("event.data.f", 2.5), ("event.data.missing", None), ("'5'", None), ("true", None),
        ("event.data.n > 3 ? 120 : 0", 120.0),
    ]:  # fmt: skip
        assert compile(expression).number(SCOPE, now=NOW) == wanted, expression


def test_a_result_that_is_part_of_the_event_is_not_copied() -> None:
    assert compile("event.data").evaluate(SCOPE, now=NOW) is SCOPE["event"]["data"]

"""Registrations are read as leniently as the SDKs need it, and every fault is told with function and field."""

from __future__ import annotations

import pytest

from perdure.model.config import (
    BatchEvents,
    CancelOn,
    Concurrency,
    Cron,
    Debounce,
    EventTrigger,
    FunctionConfig,
    Priority,
    RateLimit,
    Singleton,
    Throttle,
    Timeouts,
)
from perdure.model.json import Json, encode
from perdure.wire.registration import (
    RegistrationError,
    document_of,
    parse_registration,
    registration_document,
    registration_of,
)
from tests.support.registrations import URL, body, function_object, in_band_answer, npm_request, pypi_request

CALLED = f"{URL}?fnId=shop-fulfil&stepId=step"


def _read(**members: Json) -> FunctionConfig:
    (config,) = parse_registration(body(npm_request(function_object(**members)))).functions
    return config


def _details(**members: Json) -> list[str]:
    with pytest.raises(RegistrationError) as caught:
        _read(**members)
    assert caught.value.error == "At least one function is invalid"
    return caught.value.details


def test_a_registration_of_the_npm_sdk_is_read() -> None:
    found = parse_registration(body(npm_request(function_object(), appVersion="7")))
    assert (found.app_id, found.url, found.sdk, found.framework) == ("shop", URL, "js:v4.24.0", "nodejs")
    assert (found.app_version, found.deploy_type) == ("7", "ping")
    assert found.functions == (
        FunctionConfig("shop-fulfil", "shop", "shop-fulfil", (EventTrigger("shop/paid"),), url=CALLED),
    )


def test_a_registration_of_the_pypi_sdk_has_other_keys_and_nulls() -> None:
    given = function_object(cancel=[], concurrency=[], priority=None, debounce=None, timeouts=None, idempotency=None)
    found = parse_registration(body(pypi_request(given)))
    assert (found.app_id, found.sdk, found.deploy_type, found.app_version) == ("shop", "py:v0.5.19", "ping", "")
    assert found.functions == parse_registration(body(npm_request(function_object()))).functions


def test_the_answer_to_an_in_band_sync_is_read() -> None:
    found = parse_registration(body(in_band_answer(function_object())))
    assert (found.app_id, found.url, found.sdk, len(found.functions)) == ("shop", URL, "js:v4.24.0", 1)


def test_every_option_of_a_function_is_read() -> None:
    config = _read(
        triggers=[
            {"event": "shop/paid", "expression": "event.data.n > 1"},
            {"cron": "TZ=UTC 0 9 * * 1", "jitter": "30s"},
        ],
        steps={"step": {"retries": {"attempts": 2}, "runtime": {"type": "http", "url": CALLED}}},
        concurrency=[{"limit": 2, "key": "event.data.k", "scope": "env"}, {"limit": 10}],
        throttle={"limit": 5, "period": "10s", "burst": 2, "key": "event.data.k"},
        rateLimit={"limit": 1, "period": "10s", "key": "event.data.k"},
        debounce={"period": "2s", "timeout": "10s", "key": "event.data.k"},
        priority={"run": "event.data.p"},
        singleton={"key": "event.data.k", "mode": "cancel"},
        cancel=[{"event": "shop/cancelled", "if": "event.data.id == async.data.id", "timeout": "1h"}],
        timeouts={"start": "30s", "finish": "5m"},
    )
    assert config == FunctionConfig(
        "shop-fulfil",
        "shop",
        "shop-fulfil",
        (EventTrigger("shop/paid", "event.data.n > 1"), Cron("TZ=UTC 0 9 * * 1", "30s")),
        2,
        (Concurrency(2, "event.data.k", "env"), Concurrency(10)),
        Throttle(5, "10s", 2, "event.data.k"),
        RateLimit(1, "10s", "event.data.k"),
        Debounce("2s", "10s", "event.data.k"),
        priority=Priority("event.data.p"),
        singleton=Singleton("event.data.k", "cancel"),
        cancel_on=(CancelOn("shop/cancelled", "event.data.id == async.data.id", timeout="1h"),),
        timeouts=Timeouts("30s", "5m"),
        url=CALLED,
    )


def test_a_batch_is_read() -> None:
    config = _read(batchEvents={"maxSize": 100, "timeout": "5s", "key": "event.data.k", "if": "event.data.b"})
    assert config.batch_events == BatchEvents(100, "5s", "event.data.k", "event.data.b")


def test_a_cancellation_ends_after_a_time_or_at_one() -> None:
    given = [{"event": "shop/x", "timeout": "1h"}, {"event": "shop/y", "timeout": "2026-11-22T10:00:00Z"}]
    rules = _read(cancel=given).cancel_on
    assert rules == (CancelOn("shop/x", timeout="1h"), CancelOn("shop/y", until="2026-11-22T10:00:00Z"))
    assert document_of(_read(cancel=given), CALLED)["cancel"] == given


@pytest.mark.parametrize(
    ("given", "rules"),
    [
        (3, [Concurrency(3)]),
        (0, [Concurrency(0)]),
        ({"limit": 3, "key": "event.data.k"}, [Concurrency(3, "event.data.k")]),
        ([{"limit": 3}, {"limit": 4, "scope": None}], [Concurrency(3), Concurrency(4)]),
        (
            {"step": [{"limit": 4, "key": "event.data.k", "scope": "account"}], "fn": [{"limit": 3}]},
            [Concurrency(3, hold="run"), Concurrency(4, "event.data.k", "account")],
        ),
        ({"fn": [{"limit": 3.0}]}, [Concurrency(3, hold="run")]),
        ([{"limit": 1, "key": "event.data.k", "hold": "active"}], [Concurrency(1, "event.data.k", hold="active")]),
        ([{"limit": 1, "hold": "something of a later version"}], [Concurrency(1)]),
    ],
)
def test_concurrency_comes_in_many_forms(given: Json, rules: list[Concurrency]) -> None:
    assert list(_read(concurrency=given).concurrency) == rules


def test_retries_default_to_four() -> None:
    assert _read().retries == 4
    given = {"step": {"retries": {"attempts": 0}, "runtime": {"type": "http", "url": CALLED}}}
    assert _read(steps=given).retries == 0


def test_functions_of_a_connected_worker_have_its_url() -> None:
    given = function_object(
        steps={"step": {"runtime": {"type": "ws", "url": "wss://connect/?fnId=shop-fulfil&stepId=step"}}}
    )
    found = registration_of("shop", [given], sdk="js:v4.24.0", framework="connect")
    assert found.functions[0].url == "wss://connect/?fnId=shop-fulfil&stepId=step"
    assert found.url == ""


# What is taken although the documentation does not allow it.


@pytest.mark.parametrize(
    ("members", "field", "value", "said"),
    [
        (
            {"throttle": {"limit": 0, "period": "10s"}},
            "throttle",
            Throttle(1, "10s"),
            "throttle.limit: 0 is taken for 1",
        ),
        ({"timeouts": {"start": "soon"}}, "timeouts", None, "timeouts.start: 'soon' is not a duration"),
        ({"timeouts": {"start": "soon", "finish": "1m"}}, "timeouts", Timeouts(None, "1m"), "timeouts.start"),
        (
            {"batchEvents": {"maxSize": 2, "timeout": None}},
            "batch_events",
            BatchEvents(2, "60s"),
            "batchEvents.timeout",
        ),
        (
            {"idempotency": "event.data.id", "rateLimit": {"limit": 1, "period": "10s"}},
            "rate_limit",
            None,
            "replaces the rateLimit",
        ),
        (
            {"steps": {"step": {"retries": {"attempts": 21}, "runtime": {"type": "http", "url": CALLED}}}},
            "retries",
            20,
            "21 are more than the 20",
        ),
    ],
)
def test_what_sdks_rely_on_is_taken_with_a_warning(members: Json, field: str, value: object, said: str) -> None:
    found = parse_registration(body(npm_request(function_object(**members))))
    assert getattr(found.functions[0], field) == value
    (warning,) = found.warnings
    assert warning.startswith("function shop-fulfil: ")
    assert said in warning


def test_a_function_without_triggers_and_an_app_without_functions_are_fine() -> None:
    assert _read(triggers=[]).triggers == ()
    assert parse_registration(body(npm_request())).functions == ()


# What is refused.


@pytest.mark.parametrize(
    ("members", "detail"),
    [
        ({"name": ""}, "name: must be a text that is not empty, got none"),
        ({"triggers": [{}]}, 'triggers[0].event: an event name, or "cron" with a schedule, is required'),
        ({"triggers": ["shop/paid"]}, "triggers[0]: must be an object, got 'shop/paid'"),
        ({"triggers": [{"cron": "0 0 * * *", "jitter": "10m"}]}, "triggers[0].jitter: must be at most 5m, got '10m'"),
        ({"debounce": {"period": "8d"}}, "debounce.period: must be at most 168h, got '8d'"),
        ({"debounce": {}}, 'debounce.period: is required: a duration such as "1m"'),
        ({"debounce": "2s"}, "debounce: must be an object, got '2s'"),
        ({"rateLimit": {"limit": 1, "period": 60}}, "rateLimit.period: must be text, got 60"),
        ({"rateLimit": {"limit": 1, "period": "2d"}}, "rateLimit.period: must be at most 24h, got '2d'"),
        (
            {"batchEvents": {"maxSize": 1, "timeout": "5s"}},
            "batchEvents.maxSize: must be a whole number of at least 2, got 1",
        ),
        ({"concurrency": {"limit": -1}}, "concurrency[0].limit: must be a whole number of at least 0, got -1"),
        ({"concurrency": [{"limit": 1, "scope": "env"}]}, 'concurrency[0].key: is required with scope "env"'),
        ({"concurrency": {"fn": [{"limit": 1}] * 2}}, "concurrency.fn: at most 1 is allowed, got 2"),
        ({"concurrency": {"fn": 3}}, "concurrency.fn: must be a number, an object or a list of objects, got 3"),
        ({"cancel": [{"if": "true"}]}, "cancel[0].event: must be a text of 1 to 255 characters, got None"),
        (
            {"cancel": [{"event": "a", "timeout": "1y"}]},
            "cancel[0].timeout: unit 'y' in the duration '1y' is not known",
        ),
        ({"priority": {"run": 5}}, "priority.run: must be text, got 5"),
        ({"idempotency": {"key": 1}}, "idempotency: must be text, got an object"),
        ({"steps": {}}, "steps: must be an object with exactly one step"),
        ({"steps": {"a": {}, "b": {}}}, "steps: must be an object with exactly one step"),
        ({"steps": {"step": {}}}, "steps.step.runtime.url: is required: where the function is called"),
        (
            {"steps": {"step": {"runtime": {"url": "file:///x"}}}},
            "steps.step.runtime.url: must be an absolute http or ws URL",
        ),
        ({"steps": {"step": {"runtime": {"type": ["x"], "url": CALLED}}}}, "steps.step.runtime.type: must be"),
        (
            {"steps": {"step": {"retries": -1, "runtime": {"url": CALLED}}}},
            "steps.step.retries.attempts: must be a whole",
        ),
    ],
)
def test_a_fault_is_told_with_function_and_field(members: Json, detail: str) -> None:
    details = _details(**members)
    assert any(each.startswith(f"function shop-fulfil: {detail}") for each in details), details


def test_all_faults_of_all_functions_are_told_at_once() -> None:
    request = npm_request(
        function_object("shop-a", debounce={"period": "1ms"}, priority={"run": 1}),
        function_object("shop-b"),
        {"triggers": []},
    )
    with pytest.raises(RegistrationError) as caught:
        parse_registration(body(request))
    assert [each.partition(": must")[0] for each in caught.value.details] == [
        "function shop-a: debounce.period",
        "function shop-a: priority.run",
        "function 3: id",
        "function 3: steps",
        "function 3: name",
    ]
    assert (caught.value.app_id, caught.value.url) == ("shop", URL)
    assert list(caught.value.body()) == ["error", "data", "status", "details"]


def test_two_functions_of_one_id_are_refused() -> None:
    with pytest.raises(RegistrationError, match="function shop-a: id: is used by 2 functions"):
        parse_registration(body(npm_request(function_object("shop-a"), function_object("shop-a"))))


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"{", "Invalid request: the body is not JSON"),
        (b"[]", "Invalid request: the body must be an object, got a list"),
        (b"{}", "App ID required"),
        (encode({"appName": None, "url": URL}), "App ID required"),
        (encode({"appName": 5}), "Invalid request: appName: must be text, got 5"),
        (encode({"appName": "shop", "functions": {}}), "Invalid request: functions: must be a list, got an object"),
        (encode({"appName": "shop", "url": "shop"}), "Invalid request: url: must be an absolute http or https URL"),
        (
            encode(npm_request(function_object(singleton={"mode": "bogus"}))),
            "Invalid request: bogus does not belong to SingletonMode values",
        ),
        (b'{"appName": "shop", "functions": ' + b"[" * 5000 + b"]" * 5000 + b"}", "Invalid request: "),
    ],
)
def test_a_request_that_is_none_is_refused(sent: bytes, error: str) -> None:
    with pytest.raises(RegistrationError) as caught:
        parse_registration(sent)
    assert caught.value.error.startswith(error)
    assert caught.value.body()["status"] == 400


def test_the_checksum_is_of_what_is_registered() -> None:
    request = npm_request(function_object())
    same = parse_registration(body({**request, "featureObservations": {"a": 1}, "idempotencyKey": "k"}))
    assert same.checksum == parse_registration(body(request)).checksum
    assert same.checksum != parse_registration(body({**request, "appVersion": "2"})).checksum
    assert same.checksum != parse_registration(body(npm_request(function_object(name="other")))).checksum


@pytest.mark.parametrize(
    ("sdk", "vulnerable"),
    [
        ("js:v3.21.9", False),
        ("js:v3.22.0", True),
        ("inngest-js:v3.53.1", True),
        ("js:v3.54.2", False),
        ("js:v4.24.0", False),
        ("py:v3.30.0", False),
        ("", False),
    ],
)
def test_sdks_with_the_known_hole_are_recognised(sdk: str, vulnerable: bool) -> None:
    assert parse_registration(body({**npm_request(), "sdk": sdk})).vulnerable is vulnerable


# The other way.


def test_a_function_is_written_as_sdks_write_it() -> None:
    config = FunctionConfig(
        "shop-fulfil",
        "shop",
        "Fulfil",
        (EventTrigger("shop/paid"), Cron("0 9 * * *")),
        concurrency=(Concurrency(2, hold="run"), Concurrency(5, "event.data.k", "env")),
        cancel_on=(CancelOn("shop/cancelled", match="data.id", timeout=90),),
        timeouts=Timeouts(),
    )
    assert document_of(config, URL) == {
        "id": "shop-fulfil",
        "name": "Fulfil",
        "triggers": [{"event": "shop/paid"}, {"cron": "0 9 * * *"}],
        "steps": {
            "step": {
                "id": "step",
                "name": "step",
                "runtime": {"type": "http", "url": CALLED},
                "retries": {"attempts": 4},
            }
        },
        "concurrency": {"fn": [{"limit": 2}], "step": [{"limit": 5, "key": "event.data.k", "scope": "env"}]},
        "cancel": [{"event": "shop/cancelled", "if": "event.data.id == async.data.id", "timeout": "1m30s"}],
    }


def test_a_rule_for_active_runs_is_one_of_steps_to_other_servers() -> None:
    rule = Concurrency(1, "event.data.k", hold="active")
    config = FunctionConfig("shop-fulfil", "shop", "Fulfil", (EventTrigger("shop/paid"),), concurrency=(rule,))
    written = document_of(config, URL)["concurrency"]
    assert written == [{"limit": 1, "key": "event.data.k", "hold": "active"}]
    assert list(_read(concurrency=written).concurrency) == [rule]


def test_a_registration_that_is_built_can_be_read() -> None:
    config = FunctionConfig("shop-fulfil", "shop", "Fulfil", (EventTrigger("shop/paid"),))
    document = registration_document("shop", URL, [config], sdk="perdure:v1.0.0", framework="asgi", app_version="3")
    found = parse_registration(body(document))
    assert (found.app_id, found.url, found.app_version, found.framework) == ("shop", URL, "3", "asgi")
    assert found.functions[0].url == CALLED


def test_a_function_in_a_process_has_no_document_without_a_url() -> None:
    with pytest.raises(ValueError, match=r"shop-fulfil.*has no URL"):
        document_of(FunctionConfig("shop-fulfil", "shop", "Fulfil"))

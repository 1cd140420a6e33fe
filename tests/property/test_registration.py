"""What is written as a registration and read again is the same; whatever is sent, reading says what is wrong."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

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
from perdure.model.durations import format_duration
from perdure.model.json import Json, encode
from perdure.wire.registration import RegistrationError, document_of, parse_registration
from tests.support.registrations import URL, body, function_object, npm_request

NUMBERS = st.integers(1, 1_000_000)
TEXTS = st.sampled_from(["event.data.k", "event.data.a + event.data.b", "'constant'"])
KEYS = st.none() | TEXTS
# As they are written: the shortest form of a number of ms.
DURATIONS = st.integers(1000, 300_000).map(format_duration)
MAYBE = st.none() | DURATIONS


def _concurrency(hold: str) -> st.SearchStrategy[list[Concurrency]]:
    shared = st.builds(Concurrency, NUMBERS, TEXTS, st.sampled_from(["env", "account"]), st.just(hold))
    own = st.builds(Concurrency, st.integers(0, 100), KEYS, st.just("fn"), st.just(hold))
    return st.lists(shared | own, max_size=1)


CONFIGS = st.builds(
    FunctionConfig,
    id=st.text(min_size=1, max_size=20).map(lambda text: f"shop-{text}"),
    app_id=st.just("shop"),
    name=st.text(min_size=1, max_size=20),
    triggers=st.lists(
        st.builds(EventTrigger, st.text(min_size=1, max_size=255), KEYS)
        | st.builds(Cron, st.just("0 9 * * *"), MAYBE, st.sampled_from(["latest", "skip", "all"])),
        max_size=4,
    ).map(tuple),
    retries=st.integers(0, 20),
    # Rules that hold for runs come first, as they are read.
    concurrency=st.builds(lambda runs, steps: (*runs, *steps), _concurrency("run"), _concurrency("step")),
    throttle=st.none() | st.builds(Throttle, NUMBERS, DURATIONS, st.integers(0, 9), KEYS),
    rate_limit=st.none() | st.builds(RateLimit, NUMBERS, DURATIONS, KEYS),
    debounce=st.none() | st.builds(Debounce, DURATIONS, MAYBE, KEYS),
    batch_events=st.none() | st.builds(BatchEvents, st.integers(2, 100), DURATIONS, KEYS, KEYS),
    priority=st.none() | st.builds(Priority, TEXTS),
    singleton=st.none() | st.builds(Singleton, KEYS, st.sampled_from(["skip", "cancel"])),
    cancel_on=st.lists(st.builds(CancelOn, st.text(min_size=1, max_size=50), KEYS, st.none(), MAYBE), max_size=5).map(
        tuple
    ),
    timeouts=st.none() | st.builds(Timeouts, DURATIONS, MAYBE) | st.builds(Timeouts, MAYBE, DURATIONS),
    url=st.sampled_from([f"{URL}?fnId=shop-x&stepId=step", "wss://connect/?fnId=shop-x&stepId=step"]),
)


@given(CONFIGS)
def test_what_is_written_is_read_as_it_was(config: FunctionConfig) -> None:
    found = parse_registration(body(npm_request(document_of(config))))
    assert found.functions == (config,)
    assert found.warnings == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = st.sampled_from([
    "id", "name", "triggers", "steps", "idempotency", "concurrency", "throttle", "rateLimit", "debounce", "batchEvents",
    "priority", "singleton", "cancel", "timeouts",
])  # fmt: skip
INNER = st.dictionaries(
    st.sampled_from(["limit", "period", "key", "scope", "fn", "step", "mode", "event", "cron", "if", "timeout", "run",
                     "maxSize", "runtime", "retries", "attempts", "url", "type", "start", "burst", "jitter"]),
    JSON,
    max_size=4,
)  # fmt: skip


@given(st.dictionaries(MEMBERS, JSON | INNER | st.lists(INNER, max_size=3), max_size=5))
def test_whatever_a_function_holds_is_read_or_refused_with_a_reason(members: dict[str, Json]) -> None:
    try:
        found = parse_registration(encode(npm_request({**function_object(), **members})))
    except RegistrationError as error:
        assert error.error
        assert error.details
    else:
        assert found.functions[0].url


@given(JSON | st.dictionaries(st.sampled_from(["appName", "url", "functions", "sdk", "framework"]), JSON))
def test_whatever_is_sent_is_read_or_refused(document: Json) -> None:
    try:
        assert parse_registration(encode(document)).app_id
    except RegistrationError as error:
        assert error.body()["status"] == 400

"""Runs of apps on other servers: whatever an app, the network and the machine do, they end with the right result.

Programs of steps are carried out by a model app, while the node that calls it crashes at commits that chance chooses.
And what apps answer is fuzzed: nothing that can be sent stops a run for good, or hands it back with a defect.
"""

from __future__ import annotations

import json
import logging
import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from perdure.apps.gateway import Gateway
from perdure.apps.run import StaleCallError
from perdure.apps.transport import Call, Reply
from perdure.model.json import Json, decode
from perdure.model.records import StepStatus
from perdure.sdk.port import FetchRequest, FetchResponse
from perdure.wire.ops import FatalOpError, MalformedOpsError
from tests.support.crashing_store import When
from tests.support.model_app import Item, Program, Stage
from tests.support.remote_app import sha
from tests.support.remote_world import RemoteWorld

_RUNS = st.builds(Item, st.just("run"), st.integers(0, 2), st.booleans())
_WAITS = st.builds(Item, st.sampled_from(["sleep", "wait", "signal"]), seconds=st.sampled_from([0, 1, 60, 100_000]))
_OTHERS = st.builds(Item, st.sampled_from(["invoke", "fetch"]), st.integers(0, 2))
_ITEMS = st.one_of(_RUNS, _RUNS, _WAITS, _OTHERS)
_STAGES = st.builds(Stage, st.lists(_ITEMS, min_size=1, max_size=3).map(tuple), st.booleans())
PROGRAMS = st.builds(
    Program, st.lists(_STAGES, min_size=1, max_size=5).map(tuple),
    st.sampled_from([1, 2]), st.booleans(), st.integers(0, 3),
)  # fmt: skip
WHEN: st.SearchStrategy[When] = st.sampled_from(["before", "after"])
CRASHES = st.lists(st.tuples(st.integers(0, 15), WHEN), max_size=4)
DOINGS = st.lists(st.sampled_from(["go", "second", "hour", "restart", "crash"]), max_size=4)

THOROUGH = settings.get_current_profile_name() == "ci"
EXAMPLES = int(os.environ.get("PERDURE_REMOTE_EXAMPLES", "1000" if THOROUGH else "100"))
SETTINGS = settings(
    max_examples=EXAMPLES,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
    # Explaining a failure takes longer than finding it.
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)


class _Complaints(logging.Handler):
    """What perdure logs as an error while the block lasts."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(self.format(record))

    def __enter__(self) -> list[str]:
        logging.getLogger("perdure").addHandler(self)
        return self.heard

    def __exit__(self, *_: object) -> None:
        logging.getLogger("perdure").removeHandler(self)


def finish(world: RemoteWorld) -> None:
    """Lets everything happen that is due, however far away."""
    for _ in range(20):
        if world.run(world.node.drain()):
            return
    raise AssertionError("it never comes to rest")


def do(world: RemoteWorld, doing: str) -> None:
    if doing == "go":
        world.run(world.go())
    elif doing == "restart":
        world.restart()
    elif doing == "crash":
        world.crash()
    else:
        world.run(world.clock.advance("1s" if doing == "second" else "1h"))


def wrong_memos(world: RemoteWorld, run_id: str) -> list[str]:
    """What is not recorded of a program as it was to be."""
    found: list[str] = []
    memos = world.memos(run_id)
    for stage in world.app.stages:
        known = [named for named in stage if sha(named.name) in memos]
        if len(known) < (1 if stage[0].race else len(stage)):
            found.append(f"of {stage} only {known} is recorded")
        for named in known:
            status, data = memos[sha(named.name)]
            failed = status == StepStatus.FAILED
            kind = named.item.kind
            wanted = {"run": named.name, "fetch": named.name, "invoke": "child", "sleep": None}.get(kind, ...)
            if failed != (named.item.final and kind == "run") or (not failed and wanted not in (..., decode(data))):
                found.append(f"the memo of {named} is {data!r}")
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
@SETTINGS
@given(program=PROGRAMS, seed=st.integers(0, 2**32), crashes=CRASHES, doings=DOINGS)
def test_every_program_ends_right(
    program: Program, seed: int, crashes: list[tuple[int, When]], doings: list[str]
) -> None:
    world = RemoteWorld(seed, program)
    try:
        with _Complaints() as complaints:
            for crash in crashes[:1]:
                world.crash_at(*crash)
            while not world.run(world.trigger("once")):
                pass
            for number, doing in enumerate(doings, 1):
                for crash in crashes[number : number + 1]:
                    world.crash_at(*crash)
                do(world, doing)
                assert world.at_rest() == []
            finish(world)
        assert world.at_rest() + world.at_the_end() == []
        ((run_id,),) = world.rows("SELECT id FROM run WHERE function_id = 'app-f'")
        assert wrong_memos(world, run_id) == []
        assert complaints == []
    finally:
        world.close()


def written(value: Json) -> bytes:
    """JSON with whatever JSON can say: halves of surrogate pairs, and numbers of any size."""
    return json.dumps(value).encode()


class Fuzzer:
    """An app that answers with what it is given, call by call, and then well; with each call it sends a checkpoint."""

    def __init__(self, world: RemoteWorld, replies: list[Reply], checkpoints: list[Json]) -> None:
        self._world = world
        self._replies = list(replies)
        self._checkpoints = list(checkpoints)
        self._accepted: list[tuple[str, str]] = []
        world.app.call = self.call  # type: ignore[method-assign]
        gateway = Gateway()
        gateway._fetcher = self  # type: ignore[assignment]
        world.app.perform = gateway.perform  # type: ignore[method-assign, assignment]

    async def call(self, call: Call) -> Reply:
        if self._checkpoints:
            await self._send_checkpoint(call, self._checkpoints.pop(0))
        if self._replies:
            return self._replies.pop(0)
        if call.step_id != "step":
            found: Json = [{"op": "StepRun", "id": call.step_id, "name": "good"}]
            return Reply(206, _SDK, written(found))
        return Reply(200, _SDK, b'"done"')

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        """Makes a request for the gateway."""
        if request.method == "GET":
            raise OSError("nobody is there")
        return FetchResponse(request.url, 200, {"content-type": "text/plain"}, "{")

    async def _send_checkpoint(self, call: Call, steps: Json) -> None:
        try:
            await self._world.node.checkpoint(call.run_id, written({"request_id": call.request_id, "steps": steps}))
        except (MalformedOpsError, FatalOpError, StaleCallError):
            return
        done = [step["id"] for step in steps if isinstance(step, dict) and step["op"] in ("StepRun", "Step")]
        self._accepted += [(call.run_id, step_id) for step_id in done]

    def lost(self) -> list[tuple[str, str]]:
        """What was accepted and is not there."""
        kept = set(self._world.rows("SELECT run_id, id FROM step"))
        return [step for step in self._accepted if step not in kept]


# What apps may say: some of it right, most of it not.

_TEXTS = st.sampled_from(
    ["", "a", "b", "x" * 300, "\x00", "\ud800", "é", "1h", "-5s", "9999999d", "2020-01-01T00:00:00Z"]
)
_NUMBERS = st.sampled_from([0, 1, -1, 2**31, 2**63, 2**64, 10**30, 1.5, 1e308])
_VALUES = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXTS, inner, max_size=2),
    max_leaves=5,
)
_OPCODES = st.sampled_from(
    [
        "StepRun", "Step", "StepError", "StepFailed", "StepPlanned", "Sleep", "WaitForEvent", "WaitForSignal",
        "InvokeFunction", "Gateway", "AIGateway", "DeferAdd", "DeferAbort", "None", "DiscoveryRequest", "RunComplete",
        "SyncRunComplete", "Bogus",
    ]
)  # fmt: skip
_OPTIONS: dict[str, st.SearchStrategy[Json]] = {
    "event": st.sampled_from(["t/go", "inngest/x", 1]),
    "timeout": st.sampled_from(["1h", "0s", "900d", "soon", 5, None]),
    "duration": st.sampled_from(["1h", "900d", "soon", 5]),
    "if": st.sampled_from(["async.data.n == event.data.n", "false", "(((", "1 +", 5]),
    "signal": st.sampled_from(["go", "stop", 1]),
    "conflict": st.sampled_from(["fail", "replace", 1]),
    "function_id": st.sampled_from(["app-f", "app-child", "nope", 1]),
    "payload": st.sampled_from([{"data": {"n": 1}}, {"data": 1, "user": 2, "v": 3}, "text"]),
    "parallelMode": st.sampled_from(["race", 1]),
    "url": st.sampled_from(["http://x.test/", "nowhere", 1]),
    "method": st.sampled_from(["GET", "POST", "G T", 1]),
    "format": st.sampled_from(["openai-chat", "anthropic", "nobody", 1]),
    "body": _VALUES,
    "fn_slug": st.sampled_from(["app-child", 1]),
    "target_hashed_id": st.sampled_from([sha("a"), 1]),
    "input": _VALUES,
}
_WIRE = st.fixed_dictionaries(
    {"op": _OPCODES},
    optional={
        "id": st.sampled_from([sha("a"), sha("b"), sha("0.0"), "a", "", "x" * 5000, "@start", "a/b"]) | _VALUES,
        "name": _TEXTS,
        "displayName": _TEXTS | _NUMBERS,
        "opts": st.fixed_dictionaries({}, optional=_OPTIONS) | _VALUES,
        "data": _VALUES,
        "error": st.fixed_dictionaries({}, optional={"name": _VALUES, "message": _VALUES, "noRetry": _VALUES})
        | _VALUES,
        "timing": st.fixed_dictionaries({"a": _NUMBERS, "b": _NUMBERS}) | _VALUES,
        "userland": st.fixed_dictionaries({"id": _VALUES}) | _VALUES,
    },
)
_LISTS = st.lists(_WIRE | _WIRE | _WIRE | _VALUES, max_size=4)
_BODIES = st.one_of(
    _LISTS.map(written), _LISTS.map(written), _WIRE.map(written), _VALUES.map(written), st.binary(max_size=20),
    st.just(b"[" * 3_000), _LISTS.map(lambda found: written(found)[:-1]),
    st.builds(lambda status, body: written({"status": status, "headers": {"retry-after": 1}, "body": body}),
              st.sampled_from([200, 206, 500, "x"]), _LISTS | _VALUES),
)  # fmt: skip
_HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "x-inngest-sdk": st.just("fuzz"),
        "x-inngest-no-retry": st.sampled_from(["true", "false", "perhaps"]),
        "x-inngest-req-version": st.sampled_from(["1", "2", "0", "-1", "999", "\u0663", "x", ""]),
        "retry-after": st.sampled_from(["1", "-1", "9999999", "99999999", "\u0663", "Wed, 21 Oct 99999 07:28:00 GMT",
                                        "Wed, 21 Oct 2015 07:28:00 +9999", "2020-01-01T00:00:00Z", "soon"]),
    },
)  # fmt: skip
_SDK = {"x-inngest-sdk": "fuzz", "x-inngest-req-version": "2"}
_REPLIES = st.one_of(
    st.builds(Reply, st.just(206), st.just(_SDK), _BODIES),
    st.builds(Reply, st.sampled_from([200, 201, 202, 204, 206, 206, 206, 302, 400, 500, 599]), _HEADERS, _BODIES),
)


@pytest.mark.slow
@pytest.mark.timeout(600)
@SETTINGS
@given(
    replies=st.lists(_REPLIES, max_size=6), checkpoints=st.lists(_LISTS | _VALUES, max_size=3), seed=st.integers(0, 99)
)
def test_nothing_that_an_app_says_stops_the_server(replies: list[Reply], checkpoints: list[Json], seed: int) -> None:
    world = RemoteWorld(seed, Program((Stage((Item("run"),)),)))
    fuzzer = Fuzzer(world, replies, checkpoints)
    try:
        with _Complaints() as complaints:
            world.run(world.trigger("once"))
            assert world.problems() == []
            finish(world)
        assert complaints == []
        assert world.problems() + fuzzer.lost() == []
        assert world.rows("SELECT id, status FROM run WHERE status < 2") == []
    finally:
        world.close()

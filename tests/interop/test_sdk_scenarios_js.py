"""What functions of npm's `inngest` can do to a server: defer and think better of it, inherit sessions, score runs and
steps, race, and answer late. Each with checkpoints, as is the default, and without.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.support.sdk_apps import Fleet, SdkApp

Json = Any
PROGRAM = "js-scenarios"
_NOTES = "metadata { scope kind values }"
_TRACE = f"trace(preview: true) {{ {_NOTES} childrenSpans {{ name {_NOTES} }} }}"
_SPANS = f"query($id: String!) {{ run(runID: $id) {{ {_TRACE} }} }}"

both = pytest.mark.parametrize("way", ["", "-plainly"])


@pytest.fixture
async def app(fleet: Fleet) -> SdkApp:
    return await fleet.app(PROGRAM)


@both
async def test_runs_pass_on_their_sessions(app: SdkApp, way: str) -> None:
    key = app.key()
    run_id = await app.begin(f"passes-on{way}", {"key": key}, meta={"sessions": {"org": "acme", "team": "core"}})
    assert (await app.ended(run_id)).status == "COMPLETED"
    found = await app.until_noted(key, 4)
    assert sorted(found, key=str) == [{"org": "acme", "team": "core"}] * 3 + [{"org": "other", "team": "core"}]


@both
async def test_what_is_deferred_again_is_done_once(app: SdkApp, way: str) -> None:
    key = app.key()
    await app.run(f"defers-again{way}", {"key": key})
    assert await app.until_noted(key) == ["once"]
    await asyncio.sleep(1)
    assert await app.noted(key) == ["once"]


@both
async def test_a_function_that_defers_and_fails_is_called_once(app: SdkApp, way: str) -> None:
    key = app.key()
    run_id = await app.begin(f"defers-and-fails{way}", {"key": key})
    run = await app.ended(run_id)
    assert run.status == "FAILED" and run.output["message"] == "a bad day"
    assert await app.until_noted(key, 2) == ["called", "deferred"]
    # Its failure is the function's; no step is shown that the function does not have.
    assert set(await app.spans(run_id)) <= {"Finalization"}


@both
async def test_what_was_thought_better_of_is_not_done(app: SdkApp, way: str) -> None:
    key = app.key()
    assert (await app.run(f"thinks-better{way}", {"key": key})).status == "COMPLETED"
    assert await app.until_noted(key) == ["kept"]
    await asyncio.sleep(1)
    assert await app.noted(key) == ["kept"]


async def _scores(app: SdkApp, run_id: str) -> tuple[dict[str, Json], dict[str, dict[str, Json]]]:
    """The scores of a run, and of its steps by their names."""

    def values(span: Json) -> dict[str, Json]:
        found = [note["values"] for note in span["metadata"] if note["kind"] == "inngest.score"]
        return {name: score["value"] for each in found for name, score in each.items()}

    asked = {"query": _SPANS, "variables": {"id": run_id}}
    async with app.fleet.http.post(f"{app.fleet.server.url}/v0/gql", json=asked) as response:
        root = (await response.json())["data"]["run"]["trace"]
    return values(root), {span["name"]: values(span) for span in root["childrenSpans"]}


@both
async def test_scores_are_found_with_what_they_are_about(app: SdkApp, way: str) -> None:
    key = app.key()
    run_id = await app.begin(f"scores{way}", {"key": key})
    assert (await app.ended(run_id)).status == "COMPLETED"
    await app.ask("/score", {"runId": run_id, "name": "run, afterwards", "value": 5})
    await app.ask("/score", {"runId": run_id, "stepId": "scored", "name": "step, afterwards", "value": 6})
    await app.until_noted(key)
    of_step = {"step, in step": 2, "step, as step": False, "step, afterwards": 6}
    of_run = {"run, in step": 1, "run, as step": True, "run, afterwards": 5, "by scorer": 3}
    async with asyncio.timeout(20):
        # The scorer is a run of its own.
        while "by scorer" not in (await _scores(app, run_id))[0]:
            await asyncio.sleep(0.05)
    found, steps = await _scores(app, run_id)
    assert found == of_run
    assert steps == {"scored": of_step, "score the run": {}, "score the step": {}}


@both
async def test_a_score_of_no_step_fails_the_run_that_gives_it(app: SdkApp, way: str) -> None:
    run = await app.run(f"scores-nothing{way}", {"key": app.key()})
    assert run.status == "FAILED"
    assert run.output["message"] == "Failed to update metadata: Unable to find metadata target"


@both
async def test_a_race_does_no_step_twice(app: SdkApp, way: str) -> None:
    key = app.key()
    assert await app.result(f"races-on{way}", {"key": key}) == "last"
    noted = await app.noted(key)
    assert Counter(noted) == dict.fromkeys(("a", "b", "c", "last"), 1) and noted[-1] == "last"


async def test_steps_after_parallel_ones_are_checkpointed_again(app: SdkApp) -> None:
    key = app.key()
    await app.result("resumes", {"key": key})
    noted = Counter(await app.noted(key))
    # To the group, each step of the group, and from there to the end.
    assert noted.pop("called") == 4
    assert noted == dict.fromkeys(("before", "one", "two", "x", "y", "z"), 1)


async def test_a_function_that_has_run_too_long_is_called_anew(app: SdkApp) -> None:
    key = app.key()
    assert await app.result("runs-out-of-time", {"key": key}) == "after"
    noted = Counter(await app.noted(key))
    assert noted.pop("called") > 1
    assert noted == {"before": 1, "after": 1}


async def test_steps_that_come_with_a_failure_are_not_done_again(app: SdkApp) -> None:
    key = app.key()
    run_id = await app.begin("buffers", {"key": key})
    assert (await app.ended(run_id)).output == "done"
    assert await app.noted(key) == ["a", "b", "c"]
    assert set(await app.spans(run_id)) == {"a", "b", "c", "Finalization"}

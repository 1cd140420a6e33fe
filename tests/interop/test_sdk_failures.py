"""Failures of real SDK apps: retries of steps and functions, what is caught, what ends a run, and who hears of it.

Every retry comes after a second, unless the app asks for another time.
"""

from __future__ import annotations

import pytest

from perdure.client import Span
from tests.support.scenarios import Case, Outcomes, Scenarios
from tests.support.sdk_apps import SdkApp

pytestmark = pytest.mark.timeout(240)

JS = ("v4", "v3", "v4-worker", "v3-worker")
failures = Scenarios("v4", "v3", "py-fastapi", "py-flask", "v4-worker", "v3-worker", "py-worker")


def _attempts(span: Span) -> list[tuple[str, str]]:
    return [(child.name, child.status) for child in span.children]


@failures
async def step_retry(app: SdkApp) -> None:
    key = app.key()
    run = await app.run("step-retry", {"key": key})
    assert (run.status, run.output) == ("COMPLETED", "at last")
    assert await app.noted(key) == ["try"] * 3
    flaky = (await app.spans(run.id))["flaky"]
    assert _attempts(flaky) == [("Attempt 0", "FAILED"), ("Attempt 1", "FAILED"), ("Attempt 2", "COMPLETED")]
    assert flaky.children[0].output["message"] == "not yet"


@failures
async def step_exhausted(app: SdkApp) -> None:
    key = app.key()
    run = await app.run("step-exhausted", {"key": key})
    assert (run.status, run.output) == ("COMPLETED", {"message": "never"})
    assert await app.noted(key) == ["try"] * 2
    spans = await app.spans(run.id)
    assert spans["bad"].status == "FAILED" and spans["recover"].status == "COMPLETED"
    assert spans["bad"].output["message"] == "never" and spans["bad"].output["name"] == "TypeError"


@failures.only(*JS)
async def step_final(app: SdkApp) -> None:
    key = app.key()
    assert await app.result("step-final", {"key": key}) == {"message": "never ever"}
    assert await app.noted(key) == ["try"]


@failures
async def step_uncaught(app: SdkApp) -> None:
    key = app.key()
    run = await app.run("step-uncaught", {"key": key})
    assert run.status == "FAILED" and run.output["message"] == "uncaught"
    # The step was tried twice; what the function does with its failure is not tried with the step.
    assert (await app.noted(key))[:2] == ["try", "try"] and len(await app.noted(key)) == 2


@failures
async def function_retry(app: SdkApp) -> None:
    key = app.key()
    run = await app.run("function-retry", {"key": key})
    assert (run.status, run.output) == ("COMPLETED", {"kept": 1, "attempt": 2})
    assert await app.noted(key) == ["step"]


@failures
async def retry_after(app: SdkApp) -> None:
    key = app.key()
    assert await app.result("retry-after", {"key": key}) == {"attempt": 1}
    first, second = await app.journal(key)
    # The header has whole seconds.
    assert 2000 <= second["at"] - first["at"] < 8000


@failures
async def step_retry_after(app: SdkApp) -> None:
    key = app.key()
    assert await app.result("step-retry-after", {"key": key}) == "later"
    first, second = await app.journal(key)
    assert 2000 <= second["at"] - first["at"] < 8000


@failures
async def fails(app: SdkApp) -> None:
    key = app.key()
    run = await app.run("fails", {"key": key})
    assert run.status == "FAILED" and run.output["message"] == "broken 1"
    report = {"message": "broken 1", "function": f"{app.id}-fails", "run": run.id}
    assert await app.until_noted(key, 3) == ["attempt 0", "attempt 1", report]
    trace = await app.client.get_trace(run.id)
    assert _attempts(trace.children[-1]) == [("Attempt 0", "FAILED"), ("Attempt 1", "FAILED")]


@failures
async def fails_finally(app: SdkApp) -> None:
    key = app.key()
    run = await app.run("fails-finally", {"key": key})
    assert run.status == "FAILED" and run.output["message"] == "hopeless"
    report = {"message": "hopeless", "function": f"{app.id}-fails-finally", "run": run.id}
    assert await app.until_noted(key, 2) == ["attempt", report]


@pytest.mark.parametrize("case", failures.cases, ids=str)
async def test_failure(case: Case, outcomes: Outcomes) -> None:
    await outcomes.of(case)

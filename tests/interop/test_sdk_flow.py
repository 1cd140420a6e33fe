"""Flow control, cancellation, timeouts, crons and triggers of real SDK apps."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest

from perdure.client import RunInfo
from tests.support.scenarios import Case, Outcomes, Scenarios
from tests.support.sdk_apps import SdkApp, eventually

pytestmark = pytest.mark.timeout(240)

# How starts are limited does not depend on the kind of app, beyond its configuration.
flow = Scenarios("v4", "v3", "py-fastapi", "py-flask")
EVERY = ("v4", "v3", "py-fastapi", "py-flask", "v4-worker", "v3-worker", "py-worker")


async def _send(app: SdkApp, function: str, *data: dict[str, Any]) -> list[str]:
    """Sends events of a function together; returns their ids."""
    return await app.send(*({"name": f"{app.id}/{function}", "data": each} for each in data))


async def _all(app: SdkApp, sent: list[str]) -> list[RunInfo]:
    """The runs of events, once they have ended, in the order of the events."""
    return [await app.ended(await app.run_of(each)) for each in sent]


async def _runs(app: SdkApp, sent: list[str]) -> list[str]:
    """The runs that events have started so far."""
    return [run for each in sent for run in await app.client.runs_of_event(each)]


@flow.only(*EVERY)
async def one_at_a_time(app: SdkApp) -> None:
    key = app.key()
    runs = await _all(app, await _send(app, "one-at-a-time", *({"key": key, "n": n} for n in (1, 2, 3))))
    assert [(run.status, run.output) for run in runs] == [("COMPLETED", n) for n in (1, 2, 3)]
    assert await app.noted(key) == [f"{n} {what}" for n in (1, 2, 3) for what in ("begins", "ends")]


@flow
async def keys_do_not_wait_for_each_other(app: SdkApp) -> None:
    slow, fast = app.key(), app.key()
    (first,) = await _send(app, "one-at-a-time", {"key": slow, "n": 1, "ms": 3000})
    await app.until_noted(slow, 1)
    await _all(app, await _send(app, "one-at-a-time", {"key": fast, "n": 1}))
    assert await app.noted(slow) == ["1 begins"]
    await _all(app, [first])


@flow
async def throttled(app: SdkApp) -> None:
    key = app.key()
    runs = await _all(app, await _send(app, "throttled", *({"key": key, "n": n, "ms": 1} for n in (1, 2, 3))))
    first, *_, last = sorted(datetime.fromisoformat(run.started_at or "") for run in runs)
    assert (last - first).total_seconds() >= 1.9, runs


@flow
async def rate_limited(app: SdkApp) -> None:
    key = app.key()
    sent = await _send(app, "rate-limited", {"key": key, "n": 1})
    await _all(app, sent)
    more = await _send(app, "rate-limited", {"key": key, "n": 2})
    other = await _send(app, "rate-limited", {"key": app.key(), "n": 3})
    await _all(app, other)
    assert await _runs(app, more) == []
    assert await app.noted(key) == ["1 begins", "1 ends"]


@flow.only(*EVERY)
async def debounced(app: SdkApp) -> None:
    key = app.key()
    # In one request: on a machine that stalls, a second may pass between two.
    await _send(app, "debounced", *({"key": key, "n": n} for n in (1, 2, 3)))
    assert await app.until_noted(key, 2) == ["3 begins", "3 ends"]


@flow.only(*EVERY)
async def batched(app: SdkApp) -> None:
    key = app.key()
    sent = await _send(app, "batched", *({"key": key, "n": n} for n in (1, 2, 3)))
    run = await app.ended((await eventually(lambda: _runs(app, sent[:1]), "run of the batch"))[0])
    assert run.output == [1, 2, 3]
    assert run.trigger.event_ids[0] == sent[0]


@flow
async def batched_late(app: SdkApp) -> None:
    key = app.key()
    sent = await _send(app, "batched-late", *({"key": key, "n": n} for n in (1, 2)))
    run = await app.ended((await eventually(lambda: _runs(app, sent[:1]), "run of the batch"))[0])
    assert run.output == [1, 2]


@flow
async def prioritised(app: SdkApp) -> None:
    key = app.key()
    (first,) = await _send(app, "prioritised", {"key": key, "n": "first", "priority": 0, "ms": 1000})
    await app.until_noted(key, 1)
    rest = await _send(
        app,
        "prioritised",
        {"key": key, "n": "low", "priority": -100},
        {"key": key, "n": "usual", "priority": 0},
        {"key": key, "n": "high", "priority": 100},
    )
    await _all(app, [first, *rest])
    begun = [what for what in await app.noted(key) if what.endswith("begins")]
    assert begun == ["first begins", "high begins", "usual begins", "low begins"]


@flow
async def singleton_skip(app: SdkApp) -> None:
    key = app.key()
    sent = await _send(app, "singleton-skip", {"key": key, "n": 1})
    run_id = await app.run_of(sent[0])
    await app.waiting(run_id, "nap")
    (skipped,) = await _all(app, await _send(app, "singleton-skip", {"key": key, "n": 2}))
    assert skipped.status == "SKIPPED" and skipped.started_at is None
    assert (await app.ended(run_id)).status == "COMPLETED"


@flow
async def singleton_cancel(app: SdkApp) -> None:
    key = app.key()
    first = await app.begin("singleton-cancel", {"key": key, "n": 1})
    await app.waiting(first, "nap")
    second = await app.run("singleton-cancel", {"key": key, "n": 2})
    assert (await app.ended(first)).status == "CANCELLED"
    assert (second.status, second.output) == ("COMPLETED", 2)


@flow
async def idempotent(app: SdkApp) -> None:
    key = app.key()
    sent = await _send(app, "idempotent", {"key": key, "n": 1}, {"key": key, "n": 2})
    await _all(app, sent[:1])
    assert await _runs(app, sent[1:]) == []
    assert await app.noted(key) == ["1 begins", "1 ends"]


@flow
async def same_event_twice(app: SdkApp) -> None:
    key = app.key()
    event = {"name": f"{app.id}/two-steps", "data": {"key": key, "n": 1}, "id": f"once-{key}"}
    (first,) = await app.send(event)
    await app.ended(await app.run_of(first))
    (again,) = await app.send(event)
    assert again != first and await _runs(app, [again]) == []
    assert await app.noted(key) == ["a", "b"]


@flow
async def filtered(app: SdkApp) -> None:
    key = app.key()
    one, two = await _send(app, "filtered", {"key": key, "n": 1}, {"key": key, "n": 2})
    await _all(app, [two])
    assert await _runs(app, [one]) == []


@flow
async def wildcard(app: SdkApp) -> None:
    (sent,) = await app.send({"name": f"{app.id}/wild.thing.here", "data": {}})
    assert (await _all(app, [sent]))[0].output == f"{app.id}/wild.thing.here"


@flow
async def delayed(app: SdkApp) -> None:
    key, due = app.key(), int(time.time() * 1000) + 2000
    (sent,) = await app.send({"name": f"{app.id}/two-steps", "data": {"key": key, "n": 1}, "ts": due})
    await _all(app, [sent])
    assert (await app.journal(key))[0]["at"] >= due


# Ends from outside.


@flow.only(*EVERY)
async def cancel_on(app: SdkApp) -> None:
    key = app.key()
    run_id = await app.begin("cancel-on", {"key": key})
    await app.waiting(run_id, "long")
    await app.send(
        {"name": f"{app.id}/stop", "data": {"key": app.key()}}, {"name": f"{app.id}/stop", "data": {"key": key}}
    )
    assert (await app.ended(run_id)).status == "CANCELLED"


@flow
async def cancelled_by_the_api(app: SdkApp) -> None:
    run_id = await app.begin("child-sleeps")
    await app.waiting(run_id, "long")
    assert await app.client.cancel(run_id) == "Cancelled"
    assert (await app.ended(run_id)).status == "CANCELLED"


@flow
async def cancelled_while_it_works(app: SdkApp) -> None:
    key = app.key()
    run_id = await app.begin("one-at-a-time", {"key": key, "n": 1, "ms": 1000})
    await app.until_noted(key, 1)
    await app.client.cancel(run_id)
    # What the app answers after that changes nothing, and the place is free for the next.
    after = await app.run("one-at-a-time", {"key": key, "n": 2})
    assert (await app.client.get_run(run_id)).status == "CANCELLED" and after.status == "COMPLETED"


@flow
async def finish_timeout(app: SdkApp) -> None:
    run = await app.run("finish-timeout", {"key": app.key()})
    assert run.status == "CANCELLED"


@flow
async def start_timeout(app: SdkApp) -> None:
    key = app.key()
    first, second = await _all(
        app, await _send(app, "start-timeout", {"key": key, "n": 1, "ms": 4000}, {"key": key, "n": 2})
    )
    assert (first.status, second.status) == ("COMPLETED", "CANCELLED")
    assert await app.noted(key) == ["1 begins", "1 ends"]


# Times of day.


@flow
async def cron(app: SdkApp) -> None:
    async def ticks() -> list[Any] | None:
        found = await app.noted("every")
        return found if len(found) >= 2 else None

    first, second = (await eventually(ticks, "ticks"))[:2]
    assert first["cron"] == second["cron"] == "@every 2s" and first != second
    page = await app.client.list_runs(function=f"{app.id}-every")
    assert page.runs and page.runs[0].trigger.cron == "@every 2s"


@flow
async def registered(app: SdkApp) -> None:
    url = f"{app.fleet.server.url}/v2/apps/{app.id}/functions"
    async with app.fleet.http.get(f"{url}/yearly") as response:
        yearly = (await response.json())["data"]
    assert yearly["slug"] == f"{app.id}-yearly"
    assert yearly["triggers"] == [{"type": "CRON", "value": "TZ=Europe/Paris 0 9 1 1 *"}]
    async with app.fleet.http.get(f"{url}/one-at-a-time") as response:
        limited = (await response.json())["data"]["configuration"]
    limit = {"value": 1, "isPlanLimit": False}
    assert limited["concurrency"] == [{"scope": "FUNCTION", "key": "event.data.key", "limit": limit}]
    assert limited["retries"]["value"] == 0


@pytest.mark.parametrize("case", flow.cases, ids=str)
async def test_flow(case: Case, outcomes: Outcomes) -> None:
    await outcomes.of(case)

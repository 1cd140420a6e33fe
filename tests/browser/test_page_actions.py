"""What is done through the page, in a real browser: to runs and steps, functions, events; and that it stays live."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator

import pytest

from perdure.engine import views
from perdure.engine.turn import Decision
from perdure.model.json import decode
from perdure.model.records import Run, RunStatus
from tests.support.devtools import Page
from tests.support.page_server import (
    PATIENCE,
    Shown,
    fill,
    go,
    has_text,
    open_view,
    press_button,
    shown_server,
    status_of,
)


@pytest.fixture(scope="module")
async def shown() -> AsyncGenerator[Shown]:
    async with shown_server() as server:
        yield server


@pytest.fixture
async def at(shown: Shown, page: Page) -> AsyncGenerator[Page]:
    """The page, which must have nothing to complain about in the end."""
    await page.resize(1280, 900)
    await open_view(page, shown.url)
    yield page
    assert page.errors == []


async def test_a_run_is_cancelled_and_rerun(shown: Shown, at: Page) -> None:
    run_id = await shown.start("shop/sleep")
    await go(at, f"#/runs/{run_id}")
    await press_button(at, "Cancel…")
    await press_button(at, "Cancel the run", "dialog")
    await has_text(at, "Cancelled", "main h1")
    assert await status_of(shown.url, run_id) == "CANCELLED"
    await press_button(at, "Rerun")
    await at.until(f"location.hash.startsWith('#/runs/') && !location.hash.includes('{run_id}')", PATIENCE)
    await has_text(at, "Rerun of")
    await has_text(at, "long nap")


async def test_a_sleep_is_woken_and_the_run_ends_before_the_eyes_of_who_looks(shown: Shown, at: Page) -> None:
    run_id = await shown.start("shop/sleep")
    await go(at, f"#/runs/{run_id}")
    await press_button(at, "long nap")
    await press_button(at, "Wake now")
    await press_button(at, "Wake", "dialog")
    await has_text(at, "Completed", "main h1")
    await has_text(at, '"awake"')


async def test_a_wait_is_skipped_with_a_value(shown: Shown, at: Page) -> None:
    run_id = await shown.start("shop/approval.asked")
    await go(at, f"#/runs/{run_id}")
    await has_text(at, "for shop/approved", ".row")
    await press_button(at, "wait for approval")
    await press_button(at, "Skip with a value…")
    await fill(at, "data", "[1]")
    await press_button(at, "Skip", "dialog")
    # The dialog stays, and says what is wrong.
    await has_text(at, "waits for an event, whose data is an object", "dialog")
    await fill(at, "data", "no JSON")
    await press_button(at, "Skip", "dialog")
    await has_text(at, "is no JSON", "dialog")
    await fill(at, "data", '{"by": "Ada"}')
    await press_button(at, "Skip", "dialog")
    await has_text(at, "Completed", "main h1")
    run = await shown.again("waiting")
    assert run.id == run_id and decode(run.output or b"") == {"by": "Ada"}
    at.errors[:] = [each for each in at.errors if "400" not in each]


async def test_a_retry_is_attempted_now_and_a_run_done_again_from_a_step(shown: Shown, at: Page) -> None:
    run_id = await shown.start("shop/print")
    await go(at, f"#/runs/{run_id}")
    await press_button(at, "call the printer")
    await has_text(at, "Attempts that failed")
    shown.flaky.mended = True
    await press_button(at, "Try now")
    await press_button(at, "Try now", "dialog")
    await has_text(at, "Completed", "main h1")
    await press_button(at, "Rerun from here…")
    await fill(at, "input", "[1]")
    await press_button(at, "Rerun", "dialog")
    await has_text(at, "runs in this process", "dialog")
    await fill(at, "input", "")
    await press_button(at, "Rerun", "dialog")
    await at.until(f"!location.hash.includes('{run_id}') && document.querySelector('main h1')", PATIENCE)
    await has_text(at, "Rerun of")
    await has_text(at, "Completed", "main h1")
    at.errors[:] = [each for each in at.errors if "400" not in each]


async def test_a_step_that_executes_is_shown_and_says_that_it_cannot_be_skipped(shown: Shown, at: Page) -> None:
    await go(at, f"#/runs/{shown.runs['hold']}")
    await has_text(at, "Running", "p-list .row .badge")
    await press_button(at, "hold the key")
    await has_text(at, "It executes right now")
    assert not await at.run(
        "[...document.querySelectorAll('main button')].some((e) => /Skip|from here/.test(e.innerText))"
    )


async def test_a_view_that_the_server_did_not_answer_comes_by_itself_once_it_does(shown: Shown, at: Page) -> None:
    await at.run("window.answer = fetch; window.fetch = async () => { throw new TypeError('nobody there') }")
    await at.run("location.hash = '#/functions'")
    await has_text(at, "The server does not answer")
    await at.run("window.fetch = window.answer")
    await has_text(at, "Fulfil an order", "main table")


async def test_long_json_is_searched_also_beyond_what_is_shown_at_once(shown: Shown, at: Page) -> None:
    await at.run(
        "import('/page/json.js').then(({ jsonView }) => document.querySelector('main').replaceChildren(jsonView("
        "Array.from({ length: 3000 }, (_, n) => ({ name: 'item ' + n, [n === 2345 ? 'Rare' : 'common']: n })))))"
    )
    await at.until("document.querySelector('main p-json input')", PATIENCE)
    for wanted, found in (("item 2999", "item 2999"), ("rare", "item 2345"), ("nowhere", "Nothing in it")):
        await at.run(
            f"(e => {{ e.value = {json.dumps(wanted)}; e.dispatchEvent(new Event('input')) }})"
            "(document.querySelector('main p-json input'))"
        )
        await has_text(at, found, "main p-json .tree")
        assert await at.run("document.querySelectorAll('main p-json .leaf').length") < 10


async def test_a_stream_is_shown_with_what_was_taken_back(shown: Shown, at: Page) -> None:
    await go(at, "#/functions/shop/letter")
    await press_button(at, "Invoke…")
    await press_button(at, "Invoke", "dialog")
    await at.until("location.hash.startsWith('#/runs/')", PATIENCE)
    await press_button(at, "write")
    await press_button(at, "Try now")
    await press_button(at, "Try now", "dialog")
    await has_text(at, "kind regards", ".said")
    await has_text(at, "Dear <img src=x", ".said")
    await at.until("document.querySelector('.said .kept')", PATIENCE)


async def test_new_runs_come_in_live_and_many_are_done_at_once(shown: Shown, at: Page) -> None:
    await go(at, "#/runs?function=shop-sleeper")
    await at.until("document.querySelector('p-list .row')", PATIENCE)
    before = len(await at.run("document.querySelector('p-list').items"))
    ids = [await shown.start("shop/sleep") for _ in range(3)]
    await at.until(f"document.querySelector('p-list').items.length === {before + 3}", PATIENCE)
    for run_id in ids:
        box = f"[aria-label='Select the run {run_id}']"
        await at.until(f'document.querySelector("{box}")', PATIENCE)
        await at.run(f'document.querySelector("{box}").click()')
    await has_text(at, "3 selected", ".bulk")
    await press_button(at, "Cancel 3")
    await at.click("dialog button[type=submit]")
    await at.until("!document.querySelector('dialog')", PATIENCE)
    for run_id in ids:
        assert await status_of(shown.url, run_id) == "CANCELLED"
    await at.until(
        "[...document.querySelectorAll('.row')].filter((e) => e.innerText.includes('Cancelled')).length >= 3", PATIENCE
    )


async def test_a_time_range_is_replayed(shown: Shown, at: Page) -> None:
    before = len(await shown.node.view(lambda: _runs("shop-broken")))
    await press_button(at, "Replay a time range…")
    await fill(at, "slug", "shop-broken")
    await press_button(at, "Replay", "dialog")
    await has_text(at, "runs started", "#toasts")
    assert len(await shown.node.view(lambda: _runs("shop-broken"))) > before


async def test_failures_are_rerun_as_a_group(shown: Shown, at: Page) -> None:
    await go(at, "#/failed")
    before = len(await shown.node.view(lambda: _runs("shop-broken")))
    await press_button(at, "Rerun ")
    await press_button(at, "Rerun", "dialog")
    await has_text(at, "Started once more", "#toasts")
    assert len(await shown.node.view(lambda: _runs("shop-broken"))) > before


async def test_a_function_is_paused_resumed_and_invoked(shown: Shown, at: Page) -> None:
    await go(at, "#/functions/shop/report")
    await press_button(at, "Pause")
    await has_text(at, "(paused)", "main h1")
    assert shown.node.catalogue.functions["shop-report"].paused
    await press_button(at, "Resume")
    await at.until("!document.querySelector('main h1').innerText.includes('paused')", PATIENCE)
    await press_button(at, "Invoke…")
    await fill(at, "data", '{"a": 1}')
    await press_button(at, "Invoke", "dialog")
    await at.until("location.hash.startsWith('#/runs/')", PATIENCE)
    await has_text(at, "Completed", "main h1")
    assert RunStatus((await shown.again("report")).status) == RunStatus.COMPLETED


async def test_an_event_is_sent_by_form_and_as_json_and_comes_in_live(shown: Shown, at: Page) -> None:
    await go(at, "#/events")
    await at.until("document.querySelector('p-list .row')", PATIENCE)
    await shown.node.send([{"name": "shop/from.elsewhere", "data": {}}])
    await has_text(at, "shop/from.elsewhere", "p-list")
    await press_button(at, "Send an event…")
    await fill(at, "name", "shop/by.form")
    await fill(at, "data", '{"n": 7}')
    await press_button(at, "Send", "dialog")
    await has_text(at, "It started no run")
    assert await at.text("main h1") == "shop/by.form"
    await press_button(at, "Send again…")
    await fill(at, "whole", '{"name": "shop/order.placed", "data": {"n": 8}}')
    await press_button(at, "Send", "dialog")
    await has_text(at, "Fulfil an order")


def _runs(function_id: str) -> Decision[list[Run]]:
    return views.list_runs(100, function_ids=[function_id])

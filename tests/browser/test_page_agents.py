"""Agents on the page, in a real browser: a talk, a question that is approved with other arguments, threads, the run."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

import httpx2
import pytest

from tests.support.accessibility import faint_texts, nameless_controls, overflow
from tests.support.devtools import Page
from tests.support.page_app import MARKUP
from tests.support.page_server import (
    PATIENCE,
    Shown,
    fill,
    go,
    has_text,
    markup_that_came_in,
    open_view,
    press_button,
    serious_findings,
    shown_server,
)

SCREENSHOTS: Final = Path(__file__).parent / "screenshots"
BURN = '!tool agent-helper {"prompt": "!tool burn {\\"what\\": \\"paper\\"}"}'
REFUND = '!tool refund {"order": "o-17", "cents": 42}'


@pytest.fixture(scope="module")
async def shown() -> AsyncGenerator[Shown]:
    async with shown_server() as server:
        yield server


async def say(page: Page, text: str) -> None:
    await page.until("!document.querySelector('.chat form button[type=submit]').disabled", PATIENCE)
    await page.run(f"document.querySelector('.chat textarea').value = {json.dumps(text)}")
    await page.click(".chat form button[type=submit]")


async def test_a_talk_is_streamed_kept_in_a_thread_and_linked_to_its_run(shown: Shown, page: Page) -> None:
    await open_view(page, shown.url, "#/agents/desk")
    await press_button(page, "New thread")
    await page.until("location.hash.includes('thread=')", PATIENCE)
    await say(page, f"Hello {MARKUP}")
    await page.until("document.querySelector('.message.assistant .text')?.innerText.length > 0", PATIENCE)
    await has_text(page, f"Hello {MARKUP}", ".messages")
    assert await markup_that_came_in(page) == [] and await serious_findings(page) == []
    await page.until("document.querySelector('.messages a[href^=\"#/runs/\"]')", PATIENCE)
    await page.until("document.querySelector('aside li button[aria-pressed=true]')", PATIENCE)
    # The thread is there after a reload, too.
    await page.call("Page.reload")
    await has_text(page, f"Hello {MARKUP}", ".messages")
    await page.until("document.querySelector('.message.assistant')", PATIENCE)
    assert page.errors == []


async def test_a_tool_call_is_approved_with_other_arguments_and_another_declined(shown: Shown, page: Page) -> None:
    await open_view(page, shown.url, "#/agents/desk")
    await say(page, REFUND)
    await has_text(page, "It waits for your approval", ".messages")
    await has_text(page, "Waiting for a person", "aside")
    await press_button(page, "Edit and approve…", ".messages")
    await fill(page, "args", '{"order": "o-17", "cents": 7}')
    await page.click("dialog button[type=submit]")
    await has_text(page, "refunded: 7", ".messages")
    await page.until("!document.querySelector('aside .attempts')", PATIENCE)
    await say(page, REFUND)
    await has_text(page, "It waits for your approval", ".messages")
    await press_button(page, "Decline…", ".messages")
    await fill(page, "reason", "too much")
    await page.click("dialog button[type=submit]")
    await has_text(page, "Declined", ".messages")
    assert page.errors == []


async def test_a_question_is_answered_by_somebody_else(shown: Shown, page: Page) -> None:
    await open_view(page, shown.url, "#/agents/desk")
    await say(page, REFUND)
    await has_text(page, "It waits for your approval", ".messages")
    # Whoever leaves in mid stream leaves nothing behind.
    await go(page, "#/runs")
    await go(page, "#/agents/desk")
    await press_button(page, "Approve", "aside")
    await page.until("!document.querySelector('aside .attempts')", PATIENCE)
    assert page.errors == []


async def test_a_stored_agent_is_made_edited_and_its_version_put_in_force(shown: Shown, page: Page) -> None:
    await open_view(page, shown.url, "#/agents")
    await press_button(page, "New stored agent…")
    for name, text in [("id", "clerk"), ("name", "Clerk"), ("instructions", "Be brief."), ("model", "mock/model")]:
        await fill(page, name, text)
    await page.click("dialog button[type=submit]")
    await page.until(
        "location.hash === '#/agents/clerk' && document.querySelector('main h1')?.innerText === 'Clerk'", PATIENCE
    )
    await has_text(page, "Version 1 in force")
    await press_button(page, "Edit…")
    await fill(page, "instructions", f"Be kind. {MARKUP}")
    await fill(page, "changeMessage", "Kinder")
    await page.click("dialog button[type=submit]")
    await has_text(page, "Kinder")
    await page.run("document.querySelectorAll('main details').forEach((each) => (each.open = true))")
    await has_text(page, "+ Be kind. <img src=x", ".diff")
    await has_text(page, "- Be brief.", ".diff")
    await press_button(page, "Activate")
    await has_text(page, "Version 2 in force")
    assert await markup_that_came_in(page) == [] and page.errors == []


async def last_said(page: Page, text: str) -> None:
    """Waits until the newest message of the agent has a text."""
    found = "[...document.querySelectorAll('.message.assistant')].at(-1)?.innerText.includes"
    await page.until(f"{found}({json.dumps(text)})", PATIENCE)


async def test_everything_that_an_agent_says_is_shown_as_text(shown: Shown, page: Page) -> None:
    await open_view(page, shown.url, "#/agents/desk")
    await press_button(page, "New thread")
    for text, answer in [
        ("!reason why", "I think"),
        ("!tool jam {}", "no paper <img src=x"),
        ("!source", "Source: Example A"),
        ("!file", "File text/plain"),
        ('!tool agent-helper {"prompt": "hello"}', "Echo: hello"),
        ('!tool research {"topic": "sun"}', "Background task started"),
        ("!error kaboom", "kaboom"),
    ]:
        await say(page, text)
        await last_said(page, answer)
    await say(page, BURN)
    await last_said(page, "burn: It waits for your approval.")
    # Its arguments cannot be edited, so nobody is offered to.
    assert not await page.run("document.querySelector('main').innerText.includes('Edit and approve')")
    SCREENSHOTS.mkdir(exist_ok=True)
    for width in (1280, 360):
        for scheme in ("light", "dark"):
            await page.resize(width, 900)
            await page.prefer(color_scheme=scheme, reduced_motion="reduce")
            assert await overflow(page) == 0 and await faint_texts(page) == [] and await nameless_controls(page) == []
            await page.screenshot(SCREENSHOTS / f"agent-talk-{scheme}-{width}.png")
    assert await serious_findings(page) == []
    await press_button(page, "Approve", ".messages")
    await last_said(page, "burnt paper <img src=x")
    assert await markup_that_came_in(page) == []
    # Read again, it says the same, and names the run of each turn once.
    await page.call("Page.reload")
    await last_said(page, "burnt paper <img src=x")
    for text in ("I think", "no paper <img", "Source: Example A", "File text/plain"):
        await has_text(page, text, ".messages")
    assert await page.run("document.querySelectorAll('.messages .turn').length") == 7
    await press_button(page, "Cancel", "aside")
    await has_text(page, "research cancelled", "aside")
    assert await markup_that_came_in(page) == [] and page.errors == []


async def test_a_thread_shows_what_others_do_in_it(shown: Shown, page: Page) -> None:
    ask = {"memory": {"thread": "shared", "resource": "ada"}}
    unlock = '!tool unlock {"door": "cellar"}'
    async with httpx2.AsyncClient(base_url=f"{shown.url}/api/agents", timeout=PATIENCE) as http:
        await http.post("desk/generate", json={"messages": "first", **ask})
        await open_view(page, shown.url, "#/agents/desk?thread=shared")
        await last_said(page, "Echo: first")
        await http.post("desk/generate", json={"messages": f"second {MARKUP}", **ask})
        await last_said(page, "Echo: second <img src=x")
        # Somebody else's thread stays theirs when one writes to it here.
        await say(page, "third")
        await last_said(page, "Echo: third")
        await http.post("desk/generate", json={"messages": unlock, **ask})
    await last_said(page, "It waits for data.")
    await press_button(page, "Answer…", "aside")
    await fill(page, "data", '{"code": "4711"}')
    await page.click("dialog button[type=submit]")
    await last_said(page, "cellar opens with 4711")
    await page.until("!document.querySelector('aside .attempts')", PATIENCE)
    assert await markup_that_came_in(page) == [] and page.errors == []


async def test_a_run_is_stopped_and_an_agent_that_is_not_durable_is_talked_with(shown: Shown, page: Page) -> None:
    await open_view(page, shown.url, "#/agents/desk")
    await say(page, "!slow 1000 30")
    await last_said(page, "w3")
    await press_button(page, "Stop")
    await last_said(page, "Aborted")
    await page.until("document.querySelector('.messages a[href^=\"#/runs/\"]')", PATIENCE)
    await go(page, "#/agents/walk-in")
    await press_button(page, "New thread")
    await say(page, '!tool burn {"what": "wood"}')
    await last_said(page, "It waits for your approval.")
    await press_button(page, "Approve", ".messages")
    await last_said(page, "burnt wood <img src=x")
    assert await markup_that_came_in(page) == [] and page.errors == []


async def test_versions_over_code_are_compared_and_an_archived_agent_comes_back(shown: Shown, page: Page) -> None:
    await open_view(page, shown.url, "#/agents/walk-in")
    await press_button(page, "Make a version")
    await has_text(page, "Version 1")
    await press_button(page, "Edit…")
    await fill(page, "instructions", "Be quick.")
    await fill(page, "more", '{"tools": {"jam": {"description": "Never"}}}')
    await page.click("dialog button[type=submit]")
    await has_text(page, "Version 2")
    await page.run("document.querySelectorAll('main li details').forEach((each) => (each.open = true))")
    await has_text(page, "+ Be quick.")
    await has_text(page, '"description": "Never"')
    await press_button(page, "Delete…")
    await press_button(page, "Delete for good", "dialog")
    await has_text(page, "Walk-in <img src=x", ".grid")
    async with httpx2.AsyncClient(base_url=f"{shown.url}/api/stored", timeout=PATIENCE) as http:
        stored = {"id": "porter", "name": f"Porter {MARKUP}", "instructions": "Carry.", "description": MARKUP}
        made = await http.post("agents", json={**stored, "model": {"provider": "mock", "name": "model"}})
        assert made.status_code == 200
    await has_text(page, "Porter <img src=x", ".grid")
    await go(page, "#/agents/porter")
    await press_button(page, "Archive…")
    await press_button(page, "Archive", "dialog .actions")
    await has_text(page, "Archived")
    await press_button(page, "Offer again")
    await page.until("document.querySelector('a[href=\"#/agents/porter\"]')", PATIENCE)
    assert await markup_that_came_in(page) == [] and page.errors == []

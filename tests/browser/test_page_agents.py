"""Agents on the page, in a real browser: a talk, a question that is approved with other arguments, threads, the run."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator

import pytest

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

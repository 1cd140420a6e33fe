"""Who may do what on the page of a server with keys: nobody without one, and viewers only look, by page and by API."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx2
import pytest

from perdure.model.keys import ApiKey, EventKey, Keys, SigningKey
from perdure.server.auth import Guard
from tests.support.devtools import Page
from tests.support.page_server import PATIENCE, Shown, go, has_text, press_button, shown_server, sign_in

SIGNING, VIEWER, OPERATOR = "signkey-test-00112233", "viewer-0123456789abcdef", "operator-0123456789abcdef"
ACTIONS = (
    *("Cancel", "Rerun", "Wake", "Skip", "Replay", "Pause", "Invoke", "Send", "Stop", "Approve", "Decline", "Answer"),
    *("New stored", "Make a version", "Edit", "Activate", "Archive", "Delete"),
)


@pytest.fixture(scope="module")
async def shown() -> AsyncGenerator[Shown]:
    keys = Keys(
        [EventKey.parse("key")],
        [SigningKey.parse(SIGNING)],
        [ApiKey.parse(f"viewer:{VIEWER}"), ApiKey.parse(f"operator:{OPERATOR}")],
    )
    async with shown_server(Guard(keys)) as server:
        yield server


async def test_nobody_sees_anything_without_a_key(shown: Shown, page: Page) -> None:
    await sign_in(page, shown.url, "a-wrong-key-0123456789")
    await has_text(page, "none of the server's keys")
    assert not await page.run("document.querySelector('p-list')")
    # The browser notes the refusal on its console.
    assert all("401" in each for each in page.errors)


async def test_a_viewer_looks_and_can_do_nothing(shown: Shown, page: Page) -> None:
    await sign_in(page, shown.url, VIEWER)
    await has_text(page, "Fulfil an order", "p-list")
    await has_text(page, "viewer", ".tools")
    views = ["#/runs", f"#/runs/{shown.runs['sleeper']}", "#/functions/shop/hold", "#/events", "#/failed"]
    views += ["#/agents", "#/agents/desk"]
    async with httpx2.AsyncClient(base_url=shown.url, timeout=PATIENCE) as http:
        question = {"messages": '!tool refund {"order": "o-1", "cents": 1}', "runId": "asks"}
        operator = {"authorization": f"Bearer {OPERATOR}"}
        (await http.post("/api/agents/desk/generate", json=question, headers=operator)).raise_for_status()
    for view in views:
        await go(page, view)
        shown_buttons = await page.run("[...document.querySelectorAll('main button')].map((e) => e.innerText.trim())")
        assert not [each for each in shown_buttons if each.startswith(ACTIONS)], view
    await go(page, f"#/runs/{shown.runs['sleeper']}")
    await press_button(page, "long nap")
    await has_text(page, "Until")
    assert not await page.run(
        "[...document.querySelectorAll('main button')].some((e) => /Wake|Skip/.test(e.innerText))"
    )
    assert page.errors == []
    run_id = shown.runs["sleeper"]
    await go(page, "#/agents/desk")
    await has_text(page, "Waiting for a person", "aside")
    for path in ("approve-tool-call", "decline-tool-call", "stream", "generate", "threads/abort", "runs/asks/abort"):
        asked_so = f"fetch('api/agents/desk/{path}', {{method: 'POST', body: '{{}}'}}).then((answer) => answer.status)"
        assert await page.run(asked_so) == 403, path
    assert (
        await page.run("fetch('api/stored/agents', {method: 'POST', body: '{}'}).then((answer) => answer.status)")
        == 403
    )
    for path in (f"runs/{run_id}/cancel", f"runs/{run_id}/steps/nap/wake", "apps/shop/functions/hold/pause", "events"):
        asked = f"fetch('v2/{path}', {{method: 'POST', body: '{{}}'}}).then((answer) => answer.status)"
        assert await page.run(asked) == 403
    # The cookie is none of the scripts' business.
    assert await page.run("document.cookie") == ""


async def test_an_operator_acts_and_signs_out(shown: Shown, page: Page) -> None:
    await sign_in(page, shown.url, OPERATOR)
    await has_text(page, "operator", ".tools")
    run_id = shown.runs["sleeper"]
    await go(page, f"#/runs/{run_id}")
    await press_button(page, "Cancel…")
    await press_button(page, "Cancel the run", "dialog")
    await has_text(page, "Cancelled", "main h1")
    await page.call("Page.reload")
    await has_text(page, "Cancelled", "main h1")
    await press_button(page, "Sign out", "header")
    await page.until("document.querySelector('input[type=password]')", PATIENCE)
    assert await page.run("fetch('v2/runs').then((answer) => answer.status)") == 401

"""The example's page in a real browser: text that comes, is taken back, comes anew, and outlives its process."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx2
import pytest

from tests.support.accessibility import faint_texts, nameless_controls, overflow
from tests.support.devtools import Page
from tests.support.sdk_apps import ROOT, environment

LETTER = "Dear Ada, you asked about tea. It is better than I thought, and more of it comes by train."
BROKEN_OFF = "Dear Ada, unfortunately I have nothing to say about tea, and even"
POSTSCRIPT = "P.S. Keep this letter, Ada: the ink was expensive."
SIGNATURE = "Yours, the desk"
STATE = "document.getElementById('status').dataset.state"


class Desk:
    """The app in a process of its own, at an address and with records that it keeps."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self._port = str(found.getsockname()[1])
        self.url = f"http://127.0.0.1:{self._port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self, *, drying: str = "300ms", word: float = 0.03) -> None:
        command = [sys.executable, "-m", "uvicorn", "desk:web", "--port", self._port, "--log-level", "warning"]
        more = {"DESK_DB": str(self._folder / "desk.db"), "DESK_DRYING": drying, "DESK_WORD": str(word)}
        with (self._folder / "desk.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT / "examples", env=environment(more), stdout=log, stderr=log
            )
        async with httpx2.AsyncClient() as http, asyncio.timeout(30):
            while True:
                try:
                    assert (await http.get(f"{self.url}/")).status_code == 200
                    return
                except httpx2.TransportError:
                    assert self._process.poll() is None, (self._folder / "desk.log").read_text()
                    await asyncio.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncGenerator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.kill()


async def paragraphs(page: Page) -> list[str]:
    found = await page.run("[...document.querySelectorAll('#letter p')].map((each) => each.innerText.trim())")
    return [str(each) for each in found]


async def test_what_was_taken_back_is_struck_through_and_then_replaced(desk: Desk, page: Page) -> None:
    await desk.start()
    await page.goto(desk.url + "/")
    await page.click("button[type=submit]")
    assert await page.until("document.querySelector('#letter .pending')?.innerText")
    assert await page.until("document.querySelector('#letter del')?.innerText.trim()") == BROKEN_OFF
    assert await page.run(f"{STATE} === 'again'")
    lined = "getComputedStyle(document.querySelector('#letter del')).textDecorationLine"
    assert await page.run(lined) == "line-through"
    await page.until(f"{STATE} === 'done'")
    await page.until("!document.querySelector('#letter del')")
    assert await paragraphs(page) == [LETTER, POSTSCRIPT, SIGNATURE]
    assert not await page.run("document.querySelector('#letter .pending')")
    log = await page.text("#log")
    assert log.count(f"Taken back: “{BROKEN_OFF}”") == log.count("Taken back") == 1
    assert [log.count(f"Recorded: “{text}”") for text in (LETTER, POSTSCRIPT, SIGNATURE)] == [1, 1, 1]
    assert "Answer 201: " in log
    assert page.errors == []
    # Nothing comes from anywhere else.
    assert [url for url in page.requests if not url.startswith(desk.url)] == []


async def test_the_page_gets_its_letter_from_the_next_process(desk: Desk, page: Page) -> None:
    await desk.start(drying="2s")
    await page.goto(desk.url + "/")
    await page.click("#breaks_off")
    await page.click("button[type=submit]")
    await page.until("document.querySelectorAll('#letter .kept').length === 2")
    await asyncio.to_thread(desk.kill)
    await desk.start(drying="2s")
    await page.until(f"{STATE} === 'done'")
    assert await paragraphs(page) == [LETTER, POSTSCRIPT, SIGNATURE]
    assert "Taken back" not in await page.text("#log")


async def test_who_stops_listening_keeps_what_was_heard(desk: Desk, page: Page) -> None:
    await desk.start(drying="1m")
    await page.goto(desk.url + "/")
    await page.click("#breaks_off")
    await page.press("Enter")
    await page.click("button[type=submit]")
    await page.until("document.querySelectorAll('#letter .kept').length === 2")
    await page.click("#stop")
    await page.until(f"{STATE} === 'left'")
    assert await paragraphs(page) == [LETTER, POSTSCRIPT]
    assert await page.run("document.getElementById('stop').disabled")


async def test_a_refusal_is_told(desk: Desk, page: Page) -> None:
    await desk.start()
    await page.goto(desk.url + "/")
    await page.run("document.getElementById('to').removeAttribute('required')")
    await page.write("#to", "")
    await page.run("document.getElementById('to').value = ''")
    await page.click("button[type=submit]")
    await page.until(f"{STATE} === 'failed'")
    assert await page.text("#status") == "There is no letter: the answer is 422"


async def test_what_is_written_is_text_and_never_markup(desk: Desk, page: Page) -> None:
    await desk.start()
    await page.goto(desk.url + "/")
    await page.click("#breaks_off")
    await page.write("#to", "<img/src=x/onerror=alert(1)>")
    await page.press("Enter")
    await page.until(f"{STATE} === 'done'")
    assert (await paragraphs(page))[0].startswith("Dear <img/src=x/onerror=alert(1)>, you asked")
    assert not await page.run("document.querySelector('#letter img, #log img')")
    assert page.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_everybody_can_read_and_use_the_page(desk: Desk, page: Page, scheme: str) -> None:
    await desk.start()
    await page.prefer(color_scheme=scheme, reduced_motion="reduce")
    await page.goto(desk.url + "/")
    assert await nameless_controls(page) == []
    roles = await page.roles()
    for expected in [("heading", "A writing desk"), ("textbox", "To"), ("checkbox", "The writer breaks off once")]:
        assert expected in roles
    # By keyboard alone.
    await page.press("Tab")
    assert await page.run("document.activeElement.id") == "to"
    await page.press("Enter")
    await page.until("document.querySelector('#letter .pending')")
    assert await faint_texts(page) == []
    await page.until("document.querySelector('#letter del')")
    assert await faint_texts(page) == []
    await page.until(f"{STATE} === 'done'")
    assert await faint_texts(page) == []
    for width in (320, 1280):
        await page.resize(width, 800)
        assert await overflow(page) == 0

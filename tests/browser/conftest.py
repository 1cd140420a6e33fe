"""A headless Chromium, shared by all tests of a session, and a fresh page for each."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator

import pytest

from tests.support.browser import chromium, launched
from tests.support.devtools import DevTools, Page
from tests.support.sdk_apps import NotInstalled


@pytest.fixture(scope="session")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[DevTools]:
    """The browser. Where none can be had, the tests are skipped; in CI that is a failure."""
    try:
        found = chromium()
    except NotInstalled as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Chromium: {error}")
    async with launched(found, tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture
async def page(browser: DevTools) -> AsyncGenerator[Page]:
    """An empty page, with storage of its own."""
    opened = await browser.open()
    yield opened
    await browser.close(opened)

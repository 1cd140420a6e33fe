"""One server a test."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.support.wire import Wire, serving


@pytest.fixture
async def wire() -> AsyncGenerator[Wire, None]:
    async with serving() as started:
        yield started

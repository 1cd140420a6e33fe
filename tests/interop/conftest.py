"""The fleet of real SDK apps, shared by all tests of a session: starting it is what takes long."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator

import pytest

from tests.support.scenarios import Case, Outcomes
from tests.support.sdk_apps import Fleet, NotInstalled, install, running


@pytest.fixture(scope="session")
def sdks() -> None:
    """The SDKs of npm, installed. Where npm cannot, the tests are skipped; in CI that is a failure."""
    try:
        install()
    except NotInstalled as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"npm cannot install the SDKs: {error}")


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on right now, for what must know its address before it starts."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="session")
async def fleet(sdks: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Fleet, None]:
    async with running(
        tmp_path_factory.mktemp("sdk"), "--no-discovery", "--no-poll", "--retry-interval", "1"
    ) as started:
        yield started


@pytest.fixture(scope="session")
async def outcomes(fleet: Fleet, request: pytest.FixtureRequest) -> AsyncGenerator[Outcomes, None]:
    """Every scenario that was collected, started."""
    functions = [item for item in request.session.items if isinstance(item, pytest.Function)]
    given = [item.callspec.params.get("case") for item in functions if hasattr(item, "callspec")]
    started = Outcomes(fleet, [case for case in given if isinstance(case, Case)])
    yield started
    await started.close()

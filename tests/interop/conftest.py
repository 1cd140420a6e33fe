"""The fleet of real SDK apps, shared by all tests of a session: starting it is what takes long."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator

import aiohttp
import pytest

from perdure.client import Client
from tests.support.provider import provider
from tests.support.scenarios import Case, Outcomes
from tests.support.sdk_apps import Fleet, NotInstalled, Server, install


@pytest.fixture(scope="session")
def sdks() -> None:
    """The SDKs of npm, installed. Where npm cannot, the tests are skipped; in CI that is a failure."""
    try:
        install()
    except NotInstalled as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"npm cannot install the SDKs: {error}")


@pytest.fixture(scope="session")
async def fleet(sdks: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Fleet, None]:
    folder = tmp_path_factory.mktemp("sdk")
    server = Server(folder, "--no-discovery", "--no-poll", "--retry-interval", "1")
    server.start()
    with provider() as provider_url:
        async with Client(server.url) as client, aiohttp.ClientSession() as http:
            started = Fleet(server, folder, client, http, provider_url)
            try:
                yield started
            finally:
                started.stop()


@pytest.fixture(scope="session")
async def outcomes(fleet: Fleet, request: pytest.FixtureRequest) -> AsyncGenerator[Outcomes, None]:
    """Every scenario that was collected, started."""
    functions = [item for item in request.session.items if isinstance(item, pytest.Function)]
    given = [item.callspec.params.get("case") for item in functions if hasattr(item, "callspec")]
    started = Outcomes(fleet, [case for case in given if isinstance(case, Case)])
    yield started
    await started.close()

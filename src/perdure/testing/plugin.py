"""The pytest plugin: fixtures for engines and for models. Active wherever perdure is installed.

It works with whatever runs async tests (anyio, pytest-asyncio in either mode, or another plugin), since its fixtures
are plain functions: an engine must be started and stopped in the event loop of the test, so `perdure_engine` is a
factory to await, and the test itself is wrapped to stop at its end what it started. Nothing but pytest is
imported until a fixture is used.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Generator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from perdure.sdk.app import App
    from perdure.testing.clock import VirtualClock
    from perdure.testing.factory import EngineFactory
    from perdure.testing.openai_stub import OpenAIStub


@pytest.fixture
def perdure_app() -> App:
    """A new app with the id "test"."""
    from perdure.sdk.app import App

    return App("test")


@pytest.fixture
def perdure_clock() -> VirtualClock:
    """The virtual clock of the test's engines."""
    from perdure.testing.clock import VirtualClock

    return VirtualClock()


@pytest.fixture
def perdure_engine(request: pytest.FixtureRequest, perdure_clock: VirtualClock) -> Generator[EngineFactory]:
    """Starts engines: `engine = await perdure_engine(app)` runs it in memory under `perdure_clock`.

    Takes the options of `perdure.embedded`, `db` among them. Engines stop when the test ends.
    """
    from perdure.testing.factory import EngineFactory

    item = request.node
    test: Callable[..., Coroutine[Any, Any, None]] = item.obj
    if not inspect.iscoroutinefunction(test):
        pytest.fail(f"perdure_engine needs an async test: make it `async def {item.originalname}(...)`", pytrace=False)
    factory = EngineFactory(perdure_clock)

    @functools.wraps(test)
    async def stopping_engines(*args: object, **kwargs: object) -> None:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(factory.stop)
            await test(*args, **kwargs)

    item.obj = stopping_engines
    yield factory
    item.obj = test


@pytest.fixture
def perdure_openai_stub(monkeypatch: pytest.MonkeyPatch) -> Generator[OpenAIStub]:
    """A stub of OpenAI's server that answers by directives; `OPENAI_BASE_URL` and `OPENAI_API_KEY` lead to it.

    It runs in a thread, so that plain tests may use it as well as async ones.
    """
    from perdure.testing.openai_stub import served

    with served() as stub:
        monkeypatch.setenv("OPENAI_BASE_URL", stub.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "test")
        yield stub

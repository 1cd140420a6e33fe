"""What every test gets: one event loop backend, hypothesis profiles, and no silent skip in CI.

- Async tests run on asyncio through the anyio plugin (`anyio_mode = "auto"`): no marker is needed.
- `HYPOTHESIS_PROFILE=dev|ci` chooses how hard property tests search; CI=true chooses `ci`.
- With `PERDURE_NO_SKIP=1` (set by .ci/run in CI) a skip is a failure, so that a missing server or package can
  never turn a suite green by leaving it out. `@pytest.mark.may_skip(reason="...")` exempts a test.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import wraps
from inspect import iscoroutinefunction

import pytest
from hypothesis import HealthCheck, settings

from tests.support.both_stores import STORES, Databases, is_on_both, migrated
from tests.support.postgres import PostgresServer
from tests.support.valkey import ValkeyServer

_LONG = ("tests/property/", "tests/chaos/")
NO_SKIP = os.environ.get("PERDURE_NO_SKIP") == "1"

# Shared machines stall for seconds: a per-example deadline would report the machine, not the code.
settings.register_profile("dev", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
# Derandomized: a run that failed fails again, and one that passed cannot fail on an unrelated change.
settings.register_profile(
    "ci",
    deadline=None,
    max_examples=200,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The one event loop that perdure supports; session scope lets fixtures of any scope be async."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_server() -> Generator[PostgresServer]:
    """A PostgreSQL server, started when the first test asks for it."""
    server = PostgresServer(int(os.environ.get("PERDURE_TEST_POSTGRES", "18")))
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """The URL of a database with perdure's schema, to be copied."""
    return migrated(postgres_server)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, postgres_template: str) -> Generator[str]:
    """A database of its own, with perdure's schema."""
    url = postgres_server.copy_of(postgres_template)
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(scope="session")
def valkey_server() -> Generator[ValkeyServer]:
    """A Valkey server, started when the first test asks for it. Who stops it starts it again."""
    server = ValkeyServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the folders that take long first, so that no process is left alone with one of them at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(_LONG))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs the tests that `ON_BOTH` names once on each store."""
    if is_on_both(metafunc.definition.nodeid) and metafunc.definition.get_closest_marker("only_sqlite") is None:
        metafunc.parametrize("_store", STORES, indirect=True)


@pytest.fixture(autouse=True)
def _store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Engines of the test get their data from this store, whatever file they name."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    databases = Databases(server, request.getfixturevalue("postgres_template"))
    monkeypatch.setattr("perdure.embedding.make_store", databases.make_store)
    monkeypatch.setattr(Databases, "current", databases)
    yield
    databases.give_back()


def _in_a_task(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., Awaitable[None]]:
    @wraps(test)
    async def run(**arguments: object) -> None:
        try:
            await asyncio.create_task(test(**arguments))
        except asyncio.CancelledError as error:
            raise RuntimeError("the test was cancelled, by nobody who waits for it") from error

    return run


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Each async test has a task of its own, apart from the one that fixtures share.

    A request to cancel stays with its task (a `TaskGroup` of Python 3.11 leaves one when a task of it fails), and code
    that asks for it later, as pydantic-ai's does, would end another test, and with it the task that runs all the rest.
    """
    if iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = _in_a_task(pyfuncitem.obj)
    return (yield)


def _skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The reason out of a skip's (path, line, reason) triple."""
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    report.longrepr = f"skipped while PERDURE_NO_SKIP=1: {_skip_reason(report)}"
    report.outcome = "failed"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure; an expected failure (xfail) is reported as a skip too and stays one."""
    report = yield
    xfailed = hasattr(report, "wasxfail")
    if NO_SKIP and report.skipped and not xfailed and item.get_closest_marker("may_skip") is None:
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the skip of a whole module (importorskip at its top) into a failure."""
    report = yield
    if NO_SKIP and report.skipped:
        _fail(report)
    return report


@pytest.fixture(autouse=True)
def _logging_stays_as_it_is() -> Generator[None]:
    """Frameworks configure the logging of the whole process; the next test must not find it so."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    for handler in root.handlers[:]:
        # Pytest's own come and go with the phases of a test.
        if handler not in handlers and not type(handler).__module__.startswith("_pytest"):
            root.removeHandler(handler)

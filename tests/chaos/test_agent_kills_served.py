"""A durable agent whose app is served to a server: the app is killed in the middle of calls, and served again.

The server goes on: it calls again where the app is then. What is heard and what comes of it are as in one life.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from perdure.model.json import Json
from tests.chaos.killing import Template, template
from tests.support.agent_kills import MARKS, Case
from tests.support.dev_server import DevServer

pytestmark = MARKS


@pytest.fixture(scope="module")
def workers() -> Generator[Template]:
    with template("tests.chaos.agent_worker") as made:
        yield made


@pytest.fixture
def server(tmp_path: Path) -> Generator[DevServer]:
    options = ("--db", str(tmp_path / "server.db"), "--retry-interval", "0.2", "--no-discovery", "--poll-interval", "0")
    with DevServer(tmp_path, *options) as running:
        yield running


@pytest.fixture(scope="module")
def undisturbed(workers: Template, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    case = Case(tmp_path_factory.mktemp("agents") / "undisturbed", workers)
    assert not case.live()
    return case.end()


@pytest.mark.parametrize(
    "how",
    [{"chunk": 5}, {"chunk": 12}, {"at": "in add"}, {"at": "after refund"}, {"at": "suspended"}, {"at": "finish"}],
    ids=str,
)
def test_killed_while_it_is_called(
    tmp_path: Path, workers: Template, server: DevServer, undisturbed: dict[str, Json], how: dict[str, Json]
) -> None:
    case = Case(tmp_path / "case", workers, tmp_path / "server.db")
    assert case.live(server=server.url, **how)
    assert not case.live(server=server.url)
    case.check(undisturbed)

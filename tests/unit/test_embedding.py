"""perdure inside a program: wrong arguments are refused before anything is opened, each by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure import App, ConfigError, EventError, NotFoundError, Retention, RunHandle, embedded
from perdure.embedding import make_node
from perdure.model.json import Json


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_active": 0}, "max_active: must be a whole number of at least 1, got 0"),
        ({"max_active": "9"}, "max_active: must be a whole number of at least 1, got '9'"),
        ({"retry_interval": "1s"}, "retry_interval: must be milliseconds, a whole number of at least 1, got '1s'"),
        ({"shutdown_timeout": -1}, "shutdown_timeout: must be seconds, at least 0, got -1"),
        ({"shutdown_timeout": float("nan")}, "shutdown_timeout: must be seconds, at least 0, got nan"),
        ({"endpoint_silence": 0.5}, "endpoint_silence: must be seconds, at least 1, got 0.5"),
        ({"endpoint_grace": 0}, "endpoint_grace: must be seconds, at least 0.1, got 0"),
        ({"retention": "7d"}, "retention: must be Retention(...)"),
        ({"max_actve": 5}, "max_actve: is no option"),
        ({"db": ""}, 'db: must be the name of a file, or ":memory:"'),
        ({"apps": [App("shop"), App("shop")]}, "app: there are several with the id 'shop'"),
        ({"apps": [5]}, "app: must be perdure.App, got 5"),
    ],
)
def test_a_wrong_argument_is_named(wrong: dict[str, Json], message: str, tmp_path: Path) -> None:
    arguments: dict[str, Json] = {"apps": App("shop"), "db": tmp_path / "shop.db", **wrong}
    with pytest.raises(ConfigError) as caught:
        make_node(**arguments)
    assert str(caught.value).startswith(f"perdure.embedded is not valid: {message}")
    assert not list(tmp_path.iterdir())


def test_a_retention_that_cannot_be_meant_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"retention is not valid: completed: .*'1x'.*; failed: "):
        Retention(completed="1x", failed=-5)


async def test_events_have_the_limits_that_they_have_over_http() -> None:
    app = App("shop")
    async with embedded(app, db=":memory:"):
        with pytest.raises(EventError, match="at most 5000 events can be sent at once, got 5001"):
            await app.send([{"name": "a"}] * 5001)
        with pytest.raises(EventError, match=r"event has \d+ bytes, and at most 3145728 are allowed") as caught:
            await app.send([{"name": "a"}, {"name": "a", "data": {"text": "x" * 3_200_000}}])
        assert caught.value.index == 1


async def test_a_run_that_is_not_there_is_said_so_each_time() -> None:
    async with embedded(App("shop"), db=":memory:") as engine:
        run: RunHandle[Json] = engine.run("01M8279A2GAWRAW9BCZDRJXKNQ")
        for _ in range(2):
            with pytest.raises(NotFoundError, match="there is no run 01M8279A2GAWRAW9BCZDRJXKNQ"):
                await run.result(timeout=1)

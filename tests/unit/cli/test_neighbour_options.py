"""The options of `perdure start` for servers that share a database."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from perdure.cli import main, serving
from perdure.cli.serving import Settings

START = ("start", "--event-key", "orders", "--signing-key", "00ff")
SHARED = (*START, "--db", "postgresql://perdure@db/shop")


def test_bus_and_lifetime_reach_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Settings] = []
    monkeypatch.setattr(serving, "serve", served.append)
    runner = CliRunner(env={"PERDURE_BUS": "redis://cache:6379", "PERDURE_LIFETIME": "5"})
    for more in ((), ("--bus", "rediss://cache:6380", "--lifetime", "30")):
        result = runner.invoke(main, [*SHARED, *more])
        assert result.exit_code == 0, result.output
    options = [serving._options(settings) for settings in served]
    assert [(option.get("bus"), option.get("lifetime")) for option in options] == [
        ("redis://cache:6379", 5.0),
        ("rediss://cache:6380", 30.0),
    ]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((*START, "--bus", "redis://cache"), "--bus is for servers that share a PostgreSQL database"),
        ((*SHARED, "--bus", "nats://:secret@cache"), "--bus must be a URL of Redis or Valkey"),
        ((*SHARED, "--lifetime", "0.5"), "--lifetime"),
    ],
)
def test_what_cannot_be_is_refused_at_once(arguments: tuple[str, ...], problem: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and problem in result.output and "secret" not in result.output

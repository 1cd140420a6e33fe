"""The options of `perdure dev` and `perdure start` that say how apps on other servers are found."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result

from perdure.apps.settings import Polling
from perdure.cli import main, serving
from perdure.cli.serving import Settings

KEYS = ("--event-key", "orders", "--signing-key", "00ff")
URL = "http://localhost:3000/api/inngest"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """What would have been served."""
    found: list[Settings] = []
    monkeypatch.setattr(serving, "serve", found.append)
    return found


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result


def test_dev_polls_and_discovers(served: list[Settings]) -> None:
    run("dev")
    run("dev", "-u", URL, "--sdk-url", URL, "-u", "https://shop.test/x", "--poll-interval", "0.5", "--no-discovery")
    run("dev", "--no-poll", "--json")
    assert [settings.polling for settings in served] == [
        Polling((), 5, True),
        Polling((URL, "https://shop.test/x"), 0.5, False),
        Polling((), 0, True),
    ]
    assert served[2].log_format == "json"


def test_start_does_neither_unless_told(served: list[Settings]) -> None:
    run("start", *KEYS)
    run("start", *KEYS, "-u", URL, "--poll-interval", "60", "--deny-vulnerable-sdks")
    assert [settings.polling for settings in served] == [Polling((), 0, False), Polling((URL,), 60, False)]
    assert [settings.deny_vulnerable_sdks for settings in served] == [False, True]


def test_what_scripts_for_other_servers_pass_is_taken(served: list[Settings]) -> None:
    run("dev", "--no-discovery", "--no-poll", "--port", "0", "--retry-interval", "1", "--tick", "10", "-v")
    run("dev", "--queue-workers", "50", "--persist", "--connect-gateway-port", "8289", "-l", "debug")
    run("start", *KEYS, "--no-ui", "--tick", "150", "--connect-gateway-grpc-port", "50052")
    assert len(served) == 3


def test_options_may_be_in_the_environment(served: list[Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INNGEST_SDK_URL", f"{URL} http://localhost:3001/x")
    monkeypatch.setenv("INNGEST_POLL_INTERVAL", "7")
    monkeypatch.setenv("INNGEST_NO_DISCOVERY", "1")
    monkeypatch.setenv("INNGEST_RETRY_INTERVAL", "2")
    monkeypatch.setenv("INNGEST_PORT", "8300")
    run("dev")
    monkeypatch.setenv("PERDURE_NO_POLL", "true")
    run("dev", "-u", URL, "--port", "8301")
    assert [settings.polling for settings in served] == [
        Polling((URL, "http://localhost:3001/x"), 7, False),
        Polling((URL,), 0, False),
    ]
    assert [(settings.port, settings.retry_interval) for settings in served] == [(8300, 2000), (8301, 2000)]


@pytest.mark.parametrize("option", ["--postgres-uri", "--redis-uri", "--sqlite-dir"])
def test_another_place_for_the_data_is_refused(served: list[Settings], option: str) -> None:
    result = CliRunner().invoke(main, ["start", *KEYS, option, "somewhere"])
    assert result.exit_code == 2
    assert f"{option}: where data is kept is named with --db: a file, or a URL of PostgreSQL" in result.output
    assert served == []


@pytest.mark.parametrize("url", ["localhost:3000", "file:///etc/passwd", "http://", "http://x:0/"])
def test_a_url_that_is_none_is_refused(served: list[Settings], url: str) -> None:
    result = CliRunner().invoke(main, ["dev", "-u", url])
    assert result.exit_code == 2
    assert "must be a URL such as http://localhost:3000/api/inngest" in result.output
    assert served == []

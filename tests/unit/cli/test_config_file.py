"""Options of a server in a file: where it is found, what it may say, and what comes before it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from perdure.apps.settings import Polling
from perdure.cli import main, serving
from perdure.cli.serving import Settings

URL = "http://localhost:3000/api/inngest"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Settings]:
    """What would have been served; in a folder that is empty."""
    found: list[Settings] = []
    monkeypatch.setattr(serving, "serve", found.append)
    monkeypatch.chdir(tmp_path)
    return found


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environment)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("perdure.json", '{"sdk-url": ["%s"], "no-discovery": true, "port": 8300, "poll-interval": 2.5}'),
        ("inngest.yaml", "sdk-url:\n  - %s\nno-discovery: true\nport: 8300\npoll-interval: 2.5\n"),
        ("inngest.yml", "{sdk-url: '%s', no-discovery: true, port: 8300, poll-interval: 2.5, tick: 10}"),
    ],
)
def test_a_file_in_the_folder_is_taken(served: list[Settings], name: str, content: str) -> None:
    Path(name).write_text(content % URL)
    assert run("dev").exit_code == 0
    assert (served[0].port, served[0].polling) == (8300, Polling((URL,), 2.5, False))


def test_a_file_that_is_named_comes_before_one_that_is_found(served: list[Settings]) -> None:
    Path("perdure.json").write_text('{"port": 1}')
    Path("other.json").write_text('{"port": 2, "no-reload": true}')
    assert run("dev", "--config", "other.json").exit_code == 0
    assert served[0].port == 2


def test_the_command_line_and_the_environment_come_before_the_file(served: list[Settings]) -> None:
    Path("perdure.json").write_text('{"port": 1, "host": "127.0.0.9", "db": "file.db"}')
    assert run("dev", "--port", "3").exit_code == 0
    assert run("dev", PERDURE_PORT="4").exit_code == 0
    assert [(settings.port, settings.db) for settings in served] == [(3, "file.db"), (4, "file.db")]


def test_keys_of_the_environment_come_before_those_of_the_file(served: list[Settings]) -> None:
    Path("perdure.json").write_text(
        '{"event-key": ["of-file"], "signing-key": "00ff", "api-key": "viewer:0123456789abcdef"}'
    )
    assert run("start").exit_code == 0
    result = run("start", PERDURE_EVENT_KEY="of-environment", PERDURE_SIGNING_KEY="aa11")
    assert result.exit_code == 0, result.output
    first, second = (settings.guard.keys for settings in served)
    assert first is not None and second is not None
    assert (first.knows_event_key("of-file"), second.knows_event_key("of-file")) == (True, False)
    assert (first.role_of("aa11"), second.role_of("00ff")) == (None, None)
    assert first.role_of("0123456789abcdef") is second.role_of("0123456789abcdef") is not None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", "{", "a.json is no JSON"),
        ("a.yaml", "a: [secret", "a.yaml is no YAML: see line"),
        ("a.json", "[1]", "must be an object of options"),
        ("a.json", '{"prot": 1}', "prot is no option of perdure dev"),
        ("a.json", '{"config": "b.json"}', "config is no option"),
        ("a.json", '{"port": true}', "port: must be a text or a number, got bool"),
        ("a.json", '{"port": [1]}', "port: must be a text or a number, got list"),
        ("a.json", '{"no-poll": 1}', "no-poll: must be true or false, got int"),
        ("a.json", '{"event-key": {"a": "secret"}}', "event-key: must be a text or a number, or a list, got dict"),
        ("a.json", '{"port": "many"}', "Invalid value for '-p' / '--port'"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(served: list[Settings], name: str, content: str, said: str) -> None:
    Path(name).write_text(content)
    result = run("dev", "--config", name)
    assert result.exit_code == 2 and said in result.output and "secret" not in result.output
    assert not served


def test_a_file_that_is_not_there_is_an_error(served: list[Settings]) -> None:
    assert "does not exist" in run("dev", "--config", "none.json").output
    Path("perdure.yaml").write_text("")
    assert run("dev").exit_code == 0

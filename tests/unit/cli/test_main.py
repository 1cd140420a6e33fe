"""The command line as such: its commands, its exit codes, and what it says to wrong usage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from perdure.cli import main

NOBODY = "http://127.0.0.1:1"


def run(*arguments: str, input: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=input)


def test_help_lists_every_command_without_loading_one() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for name in (
        "dev",
        "start",
        "keys",
        "demo",
        "send",
        "events",
        "runs",
        "run",
        "cancel",
        "signal",
        "invoke",
        "rerun",
        "pause",
        "resume",
        "functions",
        "doctor",
        "db",
        "gc",
    ):
        assert f"  {name} " in result.output
    code = "import sys; from perdure.cli import main\nmain(['--help'], standalone_mode=False)\n"
    code += "assert not {'uvicorn', 'starlette', 'perdure.cli.dev', 'perdure.server'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    "name",
    [
        "dev",
        "start",
        "keys",
        "demo",
        "send",
        "events",
        "runs",
        "run",
        "cancel",
        "functions",
        "doctor",
        "gc",
        "signal",
        "invoke",
        "rerun",
        "pause",
        "resume",
    ],
)
def test_every_command_has_help(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0 and "Usage: main" in result.output
    command = main.get_command(click.Context(main), name)
    assert command is not None and command.name == name


def test_version() -> None:
    assert run("--version").output.startswith("perdure, version ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nope",), "No such command 'nope'"),
        (("send", "x", "{not json"), "DATA is not valid JSON: "),
        (("send", "x", "[1]"), "DATA must be a JSON object, such as '{\"order\": 7}'"),
        (("send",), "Missing argument 'NAME'"),
        (("signal", "x", "{not json"), "DATA is not valid JSON: "),
        (("invoke", "f", "[1]"), "DATA must be a JSON object, such as '{\"order\": 7}'"),
        (("rerun",), "Missing argument 'RUN'"),
        (("runs", "--status", "odd"), "'odd' is not one of"),
        (("cancel",), "give ids of runs, or --function"),
        (("cancel", "A", "--function", "f"), "give ids of runs, or --function"),
        (("cancel", "A", "--if", "true"), "--if, --after and --before go with --function"),
        (("dev", "--host", "0.0.0.0"), "--host 0.0.0.0 lets other machines in"),
        (("dev", "--retry-interval", "0"), "Invalid value for '--retry-interval'"),
        (("dev", "--db", "mysql://x"), "--db mysql://x: is neither a file nor a URL of PostgreSQL"),
        (("gc",), "Missing option '--db'"),
        (("runs", "--url", "nowhere"), "base_url must begin with http:// or https://"),
    ],
)
def test_wrong_usage_is_explained_with_exit_code_2(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_data_from_standard_input_that_is_no_json() -> None:
    result = run("send", "x", "-", input="{")
    assert result.exit_code == 2 and "standard input is not valid JSON" in result.output


@pytest.mark.parametrize(
    "arguments", [("runs",), ("send", "x"), ("run", "X"), ("cancel", "X"), ("functions",), ("events",), ("doctor",)]
)
def test_no_server_is_one_line_and_exit_code_1(arguments: tuple[str, ...]) -> None:
    result = run(*arguments, "--url", NOBODY)
    assert result.exit_code == 1
    assert result.output == (
        f"Error: no perdure server answers at {NOBODY} (connection refused). "
        "Start one with `perdure dev module:app`, or name another address.\n"
    )


def test_files_that_are_not_there(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.db")
    for arguments in (("doctor", "--db", missing), ("gc", "--db", missing)):
        result = run(*arguments)
        assert result.exit_code == 1 and "there is no file" in result.output
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("hello, this is no database at all, only some text\n" * 50)
    result = run("doctor", "--db", str(other))
    assert result.exit_code == 1 and "the database cannot be read" in result.output
    result = run("gc", "--db", str(other))
    assert result.exit_code == 1 and "cannot open" in result.output

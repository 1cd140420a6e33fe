"""`perdure dev` as a user meets it: a process that serves, reloads, refuses, and ends in order."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from asyncio import to_thread
from pathlib import Path

import pytest
from click.testing import CliRunner

from perdure.cli import main
from perdure.client import Client
from tests.support.dev_server import DevServer

APP = """
from perdure import App, Context, step
from texts import TEXT

app = App("shop")

@app.function("greet", trigger="t/greet")
async def greet(ctx: Context) -> str:
    return await step.run("say", lambda: TEXT)

@app.function("long", trigger="t/long")
async def long(ctx: Context) -> str:
    before = await step.run("before", lambda: TEXT)
    await step.wait_for_event("go", event="t/go", timeout="1h")
    return before + " then " + await step.run("after", lambda: TEXT)
"""


SLOW = """
import asyncio
from perdure import App, Context, step

app = App("slow")

async def wait() -> None:
    print("in the step", flush=True)
    await asyncio.sleep(60)

@app.function("slow", trigger="t/slow")
async def slow(ctx: Context) -> None:
    await step.run("wait", wait)
"""


PLAIN = """
import time
from perdure import App, Context, step

app = App("keeps")

def wait() -> None:
    print("at work", flush=True)
    time.sleep(60)

@app.function("keep", trigger="t/keep")
async def keep(ctx: Context) -> None:
    await step.run("wait", wait)
"""


STUBBORN = """
from perdure import App, Context, step

app = App("keeps")

@app.function("keep", trigger="t/keep")
async def keep(ctx: Context) -> None:
    print("at work", flush=True)
    while True:
        try:
            await step.sleep("an hour", "1h")
        except BaseException:
            continue
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shopapp.py").write_text(APP)
    (tmp_path / "texts.py").write_text("TEXT = 'hello'\n")
    return tmp_path


async def run_of(client: Client, name: str) -> str:
    (event_id,) = await client.send({"name": name})
    (run_id,) = await client.runs_of_event(event_id)
    return run_id


def follow(server: DevServer, run_id: str) -> str:
    """Waits with the command for the run to end; what the command printed."""
    return CliRunner().invoke(main, ["run", run_id, "--follow", "--url", server.url]).output


async def test_serving_reloading_and_ending(folder: Path) -> None:
    with DevServer(folder, "shopapp:app", "--db", "shop.db", "--no-discovery", "--no-poll") as server:
        async with Client(server.url) as client:
            assert 'result "hello"' in await to_thread(follow, server, await run_of(client, "t/greet"))
            waiting = await run_of(client, "t/long")
            (folder / "texts.py").write_text("TEXT = 'ahoy!'\n")
            server.wait_for("texts.py changed")
            server.wait_for("reloaded: 2 functions")
            assert 'result "ahoy!"' in await to_thread(follow, server, await run_of(client, "t/greet"))
            (folder / "shopapp.py").write_text(APP + "\nraise ValueError('half done')\n")
            server.wait_for("ValueError: half done")
            server.wait_for("the code from before stays in force")
            assert 'result "ahoy!"' in await to_thread(follow, server, await run_of(client, "t/greet"))
            await client.send({"name": "t/go"})
            # The step from before the reload is not done again; the one after it is new code.
            assert 'result "hello then ahoy!"' in await to_thread(follow, server, waiting)
        assert server.stop() == 0
        server.wait_for("stopped; nothing that was accepted is lost")
    assert (folder / "shop.db").exists()


def test_a_second_server_on_the_same_file_or_port_is_refused(folder: Path) -> None:
    with DevServer(folder, "shopapp:app", "--db", "shop.db", "--no-reload") as server:
        runner, database = CliRunner(), str(folder / "shop.db")
        same_file = subprocess.run(
            [sys.executable, "-m", "perdure", "dev", "--db", database, "--port", "0"],
            capture_output=True,
            text=True,
        )
        assert same_file.returncode == 1 and len(same_file.stderr.splitlines()) == 1
        assert f"Error: {database} is in use by another perdure process" in same_file.stderr
        port = server.url.rpartition(":")[2]
        same_port = runner.invoke(main, ["dev", "--db", ":memory:", "--port", port])
        assert same_port.exit_code == 1 and f"Error: port {port} is in use" in same_port.output
        collect = runner.invoke(main, ["gc", "--db", database])
        assert collect.exit_code == 1 and "is in use by another perdure process" in collect.output
        examined = runner.invoke(main, ["doctor", "--db", database])
        assert examined.exit_code == 0, examined.output
        assert "a server has it open, process " in examined.output
        assert server.stop(signal.SIGINT) == 0


async def test_a_second_signal_ends_at_once(folder: Path) -> None:
    (folder / "slow.py").write_text(SLOW)
    with DevServer(folder, "slow", "--db", "slow.db", "--no-reload") as server:
        async with Client(server.url) as client:
            await client.send({"name": "t/slow"})
        server.wait_for("in the step")
        server.send_signal(signal.SIGTERM)
        server.wait_for("stopping: 1 executing")
        assert server.stop(signal.SIGTERM) == 128 + signal.SIGTERM
        server.wait_for("stopped at once; the next start recovers")


async def test_a_second_signal_ends_at_once_even_while_a_step_blocks_the_event_loop(folder: Path) -> None:
    (folder / "slow.py").write_text(SLOW.replace("await asyncio.sleep(60)", "__import__('time').sleep(60)"))
    with DevServer(folder, "slow", "--db", "slow.db", "--no-reload") as server:
        async with Client(server.url) as client:
            await client.send({"name": "t/slow"})
        server.wait_for("in the step")
        server.send_signal(signal.SIGTERM)
        # Of two signals at the same moment the system may give both to a thread that interrupts nothing.
        server.wait_for("signal received, stopping")
        assert server.stop(signal.SIGINT) in (128 + signal.SIGINT, 128 + signal.SIGTERM)
        server.wait_for("stopped at once; the next start recovers")


@pytest.mark.parametrize("body", [PLAIN, STUBBORN], ids=["plain", "stubborn"])
async def test_what_does_not_end_does_not_keep_the_process(folder: Path, body: str) -> None:
    (folder / "keeps.py").write_text(body)
    with DevServer(folder, "keeps", "--db", "keeps.db", "--no-reload") as server:
        async with Client(server.url) as client:
            run_id = await run_of(client, "t/keep")
            server.wait_for("at work")
            # Otherwise the server would wait the ten seconds for a plain step.
            await client.cancel(run_id)
        assert server.stop() == 0
        server.wait_for("stopped; nothing that was accepted is lost")
        server.wait_for("1 still executing, cut off; the next start does them again")


def test_an_app_that_cannot_be_had_ends_the_server_before_it_begins(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["dev", "no_such_module:app", "--port", "0", "--db", str(tmp_path / "x.db")])
    assert result.exit_code == 1
    assert "no_such_module:app: there is no module 'no_such_module'" in result.output
    assert not list(tmp_path.iterdir())


def test_an_address_that_is_not_ours_is_refused() -> None:
    result = CliRunner().invoke(main, ["dev", "--host", "192.0.2.1", "--allow-insecure-host", "--port", "0"])
    assert result.exit_code == 1 and "cannot listen on 192.0.2.1" in result.output


def test_a_port_that_another_program_has_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        result = CliRunner().invoke(main, ["dev", "--port", port, "--db", ":memory:"])
    assert result.exit_code == 1 and f"port {port} is in use" in result.output

"""Served apps in processes of their own: they end in silence, and survive a fork after their import."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.support.dev_server import DevServer

PREFORK = """
import os, sys
import perdure
from perdure import App
from perdure.serving import wsgi

shop = App("shop")
application = wsgi(shop, is_dev=True, base_url=sys.argv[1])
# What is begun before a fork is of no use after it, for threads stay behind.
loop = shop.sender_loop
if hasattr(os, "fork"):
    child = os.fork()
    if child == 0:
        assert shop.sender_loop is not loop
        print(len(perdure.sync.send(shop, [{"name": "t/one"}, {"name": "t/two"}])), flush=True)
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
assert shop.sender_loop is loop
print(len(perdure.sync.send(shop, {"name": "t/one"})), flush=True)
"""

ASYNC = """
import asyncio, sys
import perdure
from perdure import App

shop = App("shop")
served = perdure.serve(shop, is_dev=True, base_url=sys.argv[1])

async def main():
    print(len(await shop.send([{"name": "t/one"}, {"name": "t/two"}])))

asyncio.run(main())
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[DevServer, None, None]:
    options = ["--db", ":memory:", "--no-discovery", "--no-poll"]
    with DevServer(tmp_path_factory.mktemp("server"), *options) as started:
        yield started


@pytest.mark.parametrize(
    ("script", "printed"), [(PREFORK, ["2", "1"] if sys.platform != "win32" else ["1"]), (ASYNC, ["2", "2"])]
)
def test_a_process_ends_in_silence(server: DevServer, tmp_path: Path, script: str, printed: list[str]) -> None:
    # Python 3.12 warns of every fork of a process with threads, which is what is tested here.
    flags = ["-W", "always", "-W", "ignore:This process:DeprecationWarning"]
    ended = subprocess.run(
        [sys.executable, *flags, "-c", script, server.url], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.split() == printed

"""One process a file."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perdure.model.errors import StoreLockedError
from perdure.store.sqlite import SqliteStore
from tests.support.stores import opened

HOLD = """
import asyncio, sys
from perdure.store.sqlite import SqliteStore

async def hold():
    await SqliteStore(sys.argv[1]).open()
    print("held", flush=True)
    await asyncio.sleep(60)

asyncio.run(hold())
"""


def holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


async def test_a_second_process_is_refused_and_told_what_to_do(tmp_path: Path) -> None:
    with holder(tmp_path / "shop.db") as process:
        try:
            with pytest.raises(StoreLockedError) as caught:
                await SqliteStore(tmp_path / "shop.db").open()
        finally:
            process.kill()
    message = str(caught.value)
    assert re.search(rf"shop\.db is in use by another perdure process \(pid {process.pid}\)", message)
    assert "--db FILE" in message


async def test_the_lock_of_a_killed_process_is_gone_with_it(tmp_path: Path) -> None:
    with holder(tmp_path / "shop.db") as process:
        os.kill(process.pid, signal.SIGKILL)
    async with opened(tmp_path / "shop.db"):
        pass


async def test_a_second_store_in_the_same_process_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path / "shop.db"):
        with pytest.raises(StoreLockedError, match=f"pid {os.getpid()}"):
            await SqliteStore(tmp_path / "shop.db").open()
    async with opened(tmp_path / "shop.db"):
        pass


async def test_folders_are_made(tmp_path: Path) -> None:
    async with opened(tmp_path / "var" / "perdure" / "shop.db"):
        assert (tmp_path / "var" / "perdure" / "shop.db").exists()

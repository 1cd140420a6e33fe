"""Those who call the endpoint: curl, the Python client, and npm's client. Each tells its transcript what it hears.

None of them is told that the process died, and none is helped: curl follows redirects, the other two their streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import aiohttp

from perdure.cli.demo.endpoint.npm import fetch_client, program, search_path
from perdure.cli.demo.endpoint.transcript import Transcript
from perdure.cli.demo.files import CALLER, examples
from perdure.client import Commit, Data, Metadata, Rollback, StreamError, stream_events
from perdure.model.json import Json

_LINE_LIMIT = 1 << 20
_LOCATION = re.compile(r"(?i)< location: (\S+/runs/(\w+)/\S+)$")


class Caller(Protocol):
    """Calls a URL and returns when it has its answer, or none is to be had."""

    async def __call__(self, url: str, heard: Transcript) -> None: ...


async def python(url: str, heard: Transcript) -> None:
    """`perdure.client`, in this process."""
    try:
        async with aiohttp.ClientSession() as http, stream_events(url, client=http, timeout=60) as events:
            async for event in events:
                match event:
                    case Metadata(run_id):
                        heard.metadata(run_id)
                    case Data(chunk):
                        heard.data(chunk)
                    case Rollback():
                        heard.rollback()
                    case Commit():
                        heard.commit()
            answer = await events.answer()
    except (StreamError, TimeoutError, aiohttp.ClientError) as error:
        heard.failed(str(error) or type(error).__name__)
    else:
        heard.answered(answer.status_code, answer.text)


class Curl:
    """curl, which knows nothing of streams and follows redirects. Raises `MissingError` where there is none."""

    def __init__(self) -> None:
        self._program = program("curl")

    async def __call__(self, url: str, heard: Transcript) -> None:
        # What --verbose says of heads goes to standard error, which is not buffered.
        options = ["--silent", "--verbose", "--location", "--max-time", "60"]
        async with _running([self._program, *options, url]) as process:
            body, (status, error) = await asyncio.gather(_output(process).read(), self._heads(process, heard))
            if await process.wait() == 0:
                heard.answered(status, body.decode(errors="replace"))
            else:
                heard.failed(error or f"curl ended with {process.returncode}")

    async def _heads(self, process: asyncio.subprocess.Process, heard: Transcript) -> tuple[int, str]:
        """The last status, and the last line."""
        status, text = 0, ""
        async for line in _errors(process):
            text = line.decode(errors="replace").rstrip()
            if text.startswith("< HTTP/"):
                status = int(text.split()[2])
            elif led := _LOCATION.match(text):
                heard.metadata(led[2])
                heard.note(f"{status}, led to {led[1].partition('?')[0]}")
        return status, text


class Npm:
    """npm's client on node, with the package that was fetched into `folder`."""

    def __init__(self, node: str, folder: Path) -> None:
        self._node, self._script = node, folder / CALLER

    async def __call__(self, url: str, heard: Transcript) -> None:
        async with _running([self._node, str(self._script), url]) as process:
            errors = asyncio.create_task(_errors(process).read())
            async for line in _output(process):
                self._hear(json.loads(line), heard)
            said = (await errors).decode(errors="replace").strip()
            code = await process.wait()
            if heard.status is None:
                heard.failed(said or f"node ended with {code}")

    def _hear(self, event: dict[str, Json], heard: Transcript) -> None:
        match event["kind"]:
            case "metadata":
                heard.metadata(event["run_id"])
            case "data":
                heard.data(event["data"])
            case "rollback":
                heard.rollback()
            case "commit":
                heard.commit()
            case _:
                heard.answered(event["status"], event["body"])


async def npm(folder: Path) -> Npm:
    """npm's client, fetched into the folder. Raises `MissingError` where it cannot be had."""
    await asyncio.to_thread(folder.mkdir)
    node = await fetch_client(folder)
    # Node looks for packages beside the script.
    await asyncio.to_thread(shutil.copy, examples() / CALLER, folder)
    return Npm(node, folder)


@asynccontextmanager
async def _running(command: list[str]) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A program that ends with its caller."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, "PATH": search_path()},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=_LINE_LIMIT,
    )
    try:
        yield process
    finally:
        # Only then: to kill a process looks after it first, and asyncio would not learn how it ended.
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _output(process: asyncio.subprocess.Process) -> asyncio.StreamReader:
    assert process.stdout is not None
    return process.stdout


def _errors(process: asyncio.subprocess.Process) -> asyncio.StreamReader:
    assert process.stderr is not None
    return process.stderr

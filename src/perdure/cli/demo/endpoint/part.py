"""The part of the endpoint: three callers, one SIGKILL while their runs sleep, and what they got in the end.

The moment of the kill is chosen by what the server has recorded: every run sleeps.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import click

from perdure.cli.demo.endpoint.callers import Caller, Curl, npm, python
from perdure.cli.demo.endpoint.evidence import Call, Killing, judge
from perdure.cli.demo.endpoint.npm import MissingError
from perdure.cli.demo.endpoint.transcript import Transcript
from perdure.cli.demo.files import LETTERS, examples
from perdure.cli.demo.findings import Finding, report
from perdure.cli.demo.ledger import Ledger
from perdure.cli.demo.process import Server, WebApp
from perdure.cli.demo.recorded import Recorded
from perdure.cli.demo.show import Show
from perdure.cli.demo.stage import Stage

LETTER = "Dear {reader}, your parcel of tea left this morning. It travels by train, and should reach you on Friday."
"""What examples/letters.py writes in the end."""
_MOMENT_TIMEOUT = 30.0


async def play(stage: Stage) -> list[Finding]:
    """Starts the server and the app, calls, kills, and judges."""
    show = stage.show
    server = Server(stage.folder, stage.http, examples(), name="letters")
    web = WebApp(stage.folder, stage.http, examples(), LETTERS, server)
    try:
        callers, _ = await asyncio.gather(_callers(stage.folder, show), server.start())
        await web.start()
        show.say(f"perdure dev on {server.url}, process {server.pid}")
        show.say(f"uvicorn {LETTERS} on {web.url}, process {web.pid}, an ordinary web app; its endpoint /letter")
        show.say("streams from a step that breaks off once in mid stream, sleeps 3 s, and answers")
        recorded = Recorded(stage.http, server.url)
        transcripts, killing = await _called(callers, web, recorded, show)
        calls = await recorded.each(_traced(recorded), transcripts)
        doctor = await recorded.doctor()
    finally:
        await web.stop()
        await server.stop()
    ledger = Ledger(server.ledger)
    ledger.refresh()
    findings = judge(calls, ledger, killing, doctor, LETTER)
    report(findings, "what the callers heard, beside the server's API and the ledger of the outside world")
    return findings


async def _callers(folder: Path, show: Show) -> dict[str, Caller]:
    """Those that this machine has, by name."""
    found: dict[str, Caller] = {}
    try:
        found["curl"] = Curl()
    except MissingError as error:
        show.say(f"without curl: {error}")
    found["python"] = python
    try:
        found["npm"] = await npm(folder / "npm")
    except MissingError as error:
        show.say(f"without npm's client: {error}")
    return found


async def _called(
    callers: dict[str, Caller], web: WebApp, recorded: Recorded, show: Show
) -> tuple[list[Transcript], Killing]:
    """Calls with everybody at once; kills the app's process while the runs sleep, and starts it again."""
    transcripts = {name: Transcript(name, show) for name in callers}
    calls = [call(f"{web.url}/letter?reader={name}", transcripts[name]) for name, call in callers.items()]
    calling = asyncio.gather(*calls)
    try:
        await _until_asleep(recorded, list(transcripts.values()))
        at, pid = time.time_ns() // 1_000_000, web.pid
        await web.kill()
        show.say(click.style(f"SIGKILL: process {pid} is gone; {', '.join(callers)} wait", bold=True))
        await web.start()
        show.say(f"started again: process {web.pid}")
        await calling
    finally:
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
    return list(transcripts.values()), Killing(pid, at, web.pid)


async def _until_asleep(recorded: Recorded, transcripts: list[Transcript]) -> None:
    try:
        async with asyncio.timeout(_MOMENT_TIMEOUT):
            while not all(map(_sleeps, await recorded.each(_traced(recorded), transcripts))):
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise click.ClickException(f"not every run slept within {_MOMENT_TIMEOUT:.0f} s") from None


def _sleeps(call: Call) -> bool:
    sleep = call.step("SLEEP")
    return sleep is not None and sleep.ended_at is None


def _traced(recorded: Recorded) -> Callable[[Transcript], Awaitable[Call]]:
    async def ask(heard: Transcript) -> Call:
        return Call(heard, await recorded.find_trace(heard.run_id) if heard.run_id else None)

    return ask

"""The part of the agent: one chat, one SIGKILL in mid sentence, one approval, and what came of it.

The model is a stub of OpenAI's server; the agent lives in a web app, with its engine and its database, and that process
is killed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import aiohttp
import click

from perdure.cli.demo.agent.evidence import Played, judge
from perdure.cli.demo.agent.observer import Observer
from perdure.cli.demo.agent.script import QUESTION, SAID
from perdure.cli.demo.files import HELPDESK, HELPDESK_MODEL, examples
from perdure.cli.demo.findings import Finding, report
from perdure.cli.demo.ledger import Ledger
from perdure.cli.demo.process import LEDGER, Program
from perdure.cli.demo.stage import Stage
from perdure.model.json import Json

_MOMENT_TIMEOUT = 30.0
_RUN = "chat-1"


async def play(stage: Stage) -> list[Finding]:
    """Starts the stub and the app, asks, kills, observes on, approves, and judges."""
    if find_spec("pydantic_ai") is None:
        stage.show.say('left out: models need the package pydantic-ai, which `pip install "perdure[agents]"` brings')
        return []
    ledger = stage.folder / "helpdesk-ledger.jsonl"
    model = _Model(stage.folder, stage.http, "model", [Path(HELPDESK_MODEL).stem], {}, cwd=examples())
    desk = _desk(stage, f"{model.url}/v1", ledger)
    try:
        await asyncio.gather(model.start(), desk.start())
        stage.show.say(f"the model: OpenAI's API at {model.url}/v1, a stub that follows a script")
        stage.show.say(f"uvicorn {HELPDESK} on {desk.url}, process {desk.pid}: an agent with two tools, one of")
        stage.show.say("which needs approval; its engine and its database are in that process")
        played = await _played(stage, desk)
        played.asked = await model.asked()
    finally:
        await desk.stop()
        await model.stop()
    noted = Ledger(ledger)
    noted.refresh()
    findings = judge(played, noted)
    report(
        findings, "what the observer heard, beside the log, the ledger of the outside world, and the model's requests"
    )
    return findings


class _Model(Program):
    """The stub of a model's server."""

    async def _healthy(self) -> bool:
        try:
            return await self.asked() >= 0
        except aiohttp.ClientError:
            return False

    async def asked(self) -> int:
        """How many requests it has had."""
        async with self._http.get(f"{self.url}/requests") as answer:
            calls: int = (await answer.json())["calls"]
            return calls


def _desk(stage: Stage, model_url: str, ledger: Path) -> Program:
    environment = {
        "OPENAI_BASE_URL": model_url,
        "OPENAI_API_KEY": "demo",
        "HELPDESK_DB": str(stage.folder / "helpdesk.db"),
        LEDGER: str(ledger),
    }
    command = ["uvicorn", HELPDESK, "--log-level", "warning"]
    return Program(stage.folder, stage.http, "helpdesk", command, environment, cwd=examples())


async def _played(stage: Stage, desk: Program) -> Played:
    show, http = stage.show, stage.http
    url = f"{desk.url}/chats/{_RUN}"
    await _post(http, f"{desk.url}/chats", {"text": QUESTION, "run_id": _RUN})
    show.say(f"asked: “{QUESTION}”")
    observer = Observer(url, show)
    following = asyncio.create_task(observer.follow(http))
    try:
        # In the middle of the second answer, when the first tool has been carried out.
        await _until(lambda: len(observer.saying) > len(SAID[0]) and SAID[1].startswith(observer.saying))
        killed = desk.pid
        await desk.kill()
        show.say(click.style(f"SIGKILL: process {killed} is gone in mid sentence: “{observer.saying}”", bold=True))
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    offset = observer.last_id
    await desk.start()
    show.say(f"started again: process {desk.pid}; observed from offset {offset}")
    await observer.follow(http)
    if observer.suspended is None:
        raise click.ClickException("the agent did not come to its question")
    question = observer.suspended
    show.say(f"suspended: {question['toolName']}({question['args']}) waits for somebody")
    approved_at = time.time_ns() // 1_000_000
    decide = f"{url}/calls/{question['toolCallId']}"
    await _post(http, decide, {"approved": True, "by": "the demo"})
    show.say(click.style("approved", bold=True))
    await observer.follow(http)
    late = Observer(url, None)
    await late.follow(http)
    again = await _post(http, decide, {"approved": True}, refused=True)
    return Played(observer, late, killed, desk.pid, offset, approved_at, again)


async def _until(holds: Callable[[], bool]) -> None:
    try:
        async with asyncio.timeout(_MOMENT_TIMEOUT):
            while not holds():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise click.ClickException(f"the agent did not come so far within {_MOMENT_TIMEOUT:.0f} s") from None


async def _post(http: aiohttp.ClientSession, url: str, body: Json, *, refused: bool = False) -> tuple[int, Json]:
    async with http.post(url, json=body) as response:
        if not refused and response.status >= 300:
            raise click.ClickException(f"{url} answered {response.status}: {await response.text()}")
        return response.status, await response.json()

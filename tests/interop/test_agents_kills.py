"""The published client of the agents protocol on a server that is killed, and on two nodes with one database.

Its next call goes on where the server was: a run that waited is answered, one that spoke is heard to its end, a task in
the background comes to its result.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perdure import embedded
from perdure.model.json import Json, decode, encode
from tests.support.agents_http import agents_app, kinds
from tests.support.agents_server import ServerProcess, server_process
from tests.support.hosting import asgi_server
from tests.support.mcp_packages import install
from tests.support.sdk_apps import NotInstalled, environment

FOLDER = Path(__file__).parent / "agents"
ASK = '!tool deleteThing {"thing":"a"}'
pytestmark = pytest.mark.timeout(180)


class Session:
    """A client in a process of its own, which outlives its servers."""

    def __init__(self, url: str) -> None:
        command = shutil.which("node", path=environment({})["PATH"])
        assert command is not None
        pipe = subprocess.PIPE
        made = subprocess.Popen(
            [command, "session.mjs"],
            cwd=FOLDER,
            env=environment({}),
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.DEVNULL,
        )
        assert made.stdin is not None and made.stdout is not None
        self._process, self._calls, self._answers = made, made.stdin, made.stdout
        self.url = url

    async def call(self, call: str, *args: Json, url: str | None = None, **where: Json) -> Json:
        """What a method has given, or the chunks of a stream."""
        self._calls.write(encode({"url": url or self.url, "call": call, "args": args, **where}) + b"\n")
        self._calls.flush()
        told = decode(await asyncio.to_thread(self._answers.readline))
        assert "error" not in told, told
        return told["value"]

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()

    async def thread(self, agent: str, id: str) -> list[Json]:
        """The messages of a thread."""
        found = await self.call("listMessages", thread={"threadId": id, "agentId": agent})
        messages: list[Json] = found["messages"]
        return messages


@contextmanager
def client_of(url: str) -> Generator[Session]:
    """A client of the server there."""
    made = Session(url)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def client() -> None:
    try:
        install(FOLDER)
    except NotInstalled as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"npm cannot install the client: {error}")


@pytest.fixture
def killed(client: None, tmp_path: Path) -> Generator[tuple[Session, ServerProcess]]:
    with server_process(str(tmp_path / "agents.db")) as server, client_of(server.url) as session:
        yield session, server


def memory(thread: str) -> Json:
    return {"thread": thread, "resource": "ada"}


async def test_a_client_goes_on_after_its_server_was_killed(killed: tuple[Session, ServerProcess]) -> None:
    session, server = killed
    where: Json = {"agent": "durable-agent"}
    asked = await session.call("stream", ASK, {"memory": memory("k1")}, until="tool-call-approval", **where)
    slow = {"runId": "slow-1", "memory": memory("k2")}
    begun = await session.call("stream", "!slow 30 60", slow, until="text-delta", **where)
    research = '!tool research {"topic":"gated k"}'
    later = {"runId": "later-1", "memory": memory("k3")}
    started = await session.call(
        "streamUntilIdle", research, later, until="background-task-started", agent="durable-bg"
    )
    server.kill()
    assert "text-delta" in kinds(begun) and "finish" not in kinds(begun)
    server.start()
    # Between a question and its answer.
    (run,) = (await session.call("listSuspendedRuns", {"threadId": "k1"}, **where))["runs"]
    assert run["runId"] == asked[0]["runId"]
    call = {"runId": run["runId"], "toolCallId": run["toolCalls"][0]["toolCallId"]}
    answered = await session.call("approveToolCall", call, until="finish", **where)
    assert kinds(answered).startswith("tool-result ") and answered[0]["payload"]["result"] == {"deleted": "a"}
    assert [each["role"] for each in await session.thread("durable-agent", "k1")] == ["user", "assistant", "assistant"]
    # Between two chunks.
    observed = await session.call("observe", {"runId": "slow-1"}, until="finish", **where)
    text = " ".join(f"w{number}" for number in range(30))
    assert observed[-1]["data"]["payload"]["output"]["text"] == text
    assert [each["content"]["content"] for each in await session.thread("durable-agent", "k2")] == ["!slow 30 60", text]
    # In a background task.
    released = {"data": {"topic": "gated k"}}
    assert await session.call("executeTool", "release", released, agent="durable-bg") is True
    heard = await session.call("observe", {"runId": "later-1"}, agent="durable-bg")
    assert "background-task-completed" in [each["data"]["type"] for each in heard]
    task_id = next(each["payload"]["taskId"] for each in started if each["type"] == "background-task-started")
    task = await session.call("getBackgroundTask", task_id)
    assert (task["status"], task["result"]["summary"]) == ("completed", "All about gated k")


async def test_a_question_is_answered_on_another_node(client: None, postgres_url: str) -> None:
    async with (
        embedded(agents_app(), db=postgres_url) as here,
        embedded(agents_app(), db=postgres_url) as there,
        asgi_server(here.asgi()) as url,
        asgi_server(there.asgi()) as other,
    ):
        with client_of(url) as session:
            await answered_elsewhere(session, other)


async def answered_elsewhere(session: Session, other: str) -> None:
    """`other` is where answers are sent; everything else is asked of the first node."""
    where: Json = {"agent": "durable-agent"}
    options = {"memory": memory("p1"), "runId": "p-1"}
    await session.call("stream", ASK, options, until="tool-call-approval", **where)
    call = {"runId": "p-1", "toolCallId": "call_1"}
    answered = await session.call("approveToolCall", call, until="finish", url=other, **where)
    assert answered[0]["payload"]["result"] == {"deleted": "a"} and answered[-1]["type"] == "finish"
    observed = await session.call("observe", {"runId": "p-1"}, until="finish", **where)
    assert observed[-1]["data"]["payload"]["stepResult"]["reason"] == "stop"
    told = {"threadId": "p1", "resourceId": "ada"}
    sent = await session.call("sendMessage", {"message": ASK, **told}, url=other, **where)
    heard = await session.call("subscribeToThread", told, until="tool-call-approval", **where)
    assert {chunk["runId"] for chunk in heard} == {sent["runId"]}
    question = {**told, "toolCallId": heard[-1]["payload"]["toolCallId"], "approved": False}
    assert (await session.call("sendToolApproval", question, url=other, **where))["runId"] == sent["runId"]
    rest = await session.call("observe", {"runId": sent["runId"]}, until="finish", **where)
    assert "tool-output-denied" in [each["data"]["type"] for each in rest]

"""Threads over HTTP: who is heard, in which order runs go, what becomes of what was sent; and background tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from perdure import Node, embedded
from perdure.model.json import Json, decode
from tests.support.agents_http import agents_app, frames_of, kinds
from tests.support.hosting import asgi_server

pytestmark = pytest.mark.timeout(90)


class Desk:
    """A served node, and a client of it."""

    def __init__(self, node: Node, http: httpx2.AsyncClient) -> None:
        self.node = node
        self.http = http

    async def post(self, path: str, body: Json, status: int = 200) -> Json:
        response = await self.http.post(f"/api/{path}", json=body)
        assert response.status_code == status, response.text
        return response.json()

    async def get(self, path: str, status: int = 200) -> Json:
        response = await self.http.get(f"/api/{path}")
        assert response.status_code == status, response.text
        return response.json()

    def stream(self, agent: str, messages: str, thread: str) -> asyncio.Task[list[Json]]:
        """A run in a thread; its frames."""

        async def read() -> list[Json]:
            body = {"messages": messages, "memory": {"thread": thread, "resource": "ada"}}
            response = await self.http.post(f"/api/agents/{agent}/stream", json=body)
            assert response.status_code == 200, response.text
            return frames_of(response.text)

        return asyncio.create_task(read())

    async def release(self, topic: str) -> None:
        """Lets those go who wait for it."""
        await self.post("tools/release/execute", {"data": {"topic": topic}})

    @asynccontextmanager
    async def heard(self, method: str, path: str, body: Json = None) -> AsyncGenerator[Ear]:
        """What an endless stream says."""
        async with self.http.stream(method, f"/api/{path}", json=body) as response:
            assert response.status_code == 200
            ear = Ear(response)
            listening = asyncio.create_task(ear.listen())
            try:
                yield ear
            finally:
                listening.cancel()
                await asyncio.wait([listening])


class Ear:
    """Listens to a stream."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response
        self.chunks: list[Json] = []
        self.comments: list[str] = []
        self._more = asyncio.Event()
        self.over = asyncio.Event()

    async def listen(self) -> None:
        """Until the stream ends."""
        try:
            async for line in self._response.aiter_lines():
                if line.startswith("data: {"):
                    self.chunks.append(decode(line[6:]))
                elif line.startswith(":"):
                    self.comments.append(line)
                self._more.set()
        finally:
            self.over.set()

    async def until(self, kind: str, count: int = 1) -> list[Json]:
        """The chunks, once so many of a kind have come."""
        async with asyncio.timeout(30):
            while sum(chunk["type"] == kind for chunk in self.chunks) < count:
                self._more.clear()
                await self._more.wait()
        return self.chunks


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncGenerator[Desk]:
    async with (
        embedded(agents_app(), db=tmp_path / "desk.db") as node,
        asgi_server(node.asgi()) as url,
        httpx2.AsyncClient(base_url=url, timeout=30) as http,
    ):
        yield Desk(node, http)


def held(topic: str) -> str:
    return f'!tool hold {{"topic":"{topic}"}}'


def where(thread: str) -> dict[str, Json]:
    return {"threadId": thread, "resourceId": "ada"}


async def roles(desk: Desk, agent: str, thread: str) -> list[str]:
    found = await desk.get(f"memory/threads/{thread}/messages?agentId={agent}")
    return [each["role"] for each in found["messages"]]


@pytest.mark.parametrize("agent", ["my-agent", "durable-agent"])
async def test_the_runs_of_a_thread_go_one_after_the_other(desk: Desk, agent: str) -> None:
    async with desk.heard("POST", f"agents/{agent}/threads/subscribe", where("t")) as ear:
        first = desk.stream(agent, held("a"), "t")
        await ear.until("tool-call")
        second = desk.stream(agent, "second", "t")
        queued = await desk.post(f"agents/{agent}/queue-message", {"message": "third", **where("t")})
        await desk.release("a")
        chunks = await ear.until("finish", 3)
        ends = [chunk["runId"] for chunk in chunks if chunk["type"] == "finish"]
        ran = [frames[0]["runId"] for frames in (await first, await second)]
        assert ends[0] == ran[0] and {*ends} == {*ran, queued["runId"]}
        order = [chunk["runId"] for chunk in chunks]
        # Nothing of a run is heard before the end of the one before it.
        assert sorted(order, key=ends.index) == order
    assert ear.comments[0] == ": connected"
    finish = next(chunk for chunk in chunks if chunk["type"] == "finish")
    assert "messages" not in finish["payload"] and "steps" not in finish["payload"]["output"]


@pytest.mark.parametrize("agent", ["my-agent", "durable-agent"])
async def test_what_a_run_did_not_take_in_before_it_was_aborted_is_kept(desk: Desk, agent: str) -> None:
    async with desk.heard("POST", f"agents/{agent}/threads/subscribe", where("t")) as ear:
        going = desk.stream(agent, held("never"), "t")
        await ear.until("tool-call")
        sent = await desk.post(f"agents/{agent}/send-message", {"message": "and this", **where("t")})
        expected = {**where("t"), "expectedRunId": sent["runId"]}
        assert await desk.post(f"agents/{agent}/threads/abort", {**expected, "expectedRunId": "other"}) == {
            "aborted": False
        }
        assert await desk.post(f"agents/{agent}/threads/abort", expected) == {"aborted": True}
        assert kinds(await going).endswith("abort finish")
        assert (await ear.until("abort"))[-1] == {"type": "abort", "runId": sent["runId"]}
    async with asyncio.timeout(30):
        while "signal" not in await roles(desk, agent, "t"):
            await asyncio.sleep(0.02)
    assert (await desk.post(f"agents/{agent}/threads/abort", where("t"))) == {"aborted": False}


async def test_a_plain_run_that_waits_for_its_turn_can_be_taken_back(desk: Desk) -> None:
    async with desk.heard("POST", "agents/my-agent/threads/subscribe", where("t")) as ear:
        first = desk.stream("my-agent", held("a"), "t")
        await ear.until("tool-call")
        queued = await desk.post("agents/my-agent/queue-message", {"message": "x", **where("t")})
        gone = {**where("t"), "expectedRunId": queued["runId"]}
        assert await desk.post("agents/my-agent/threads/abort", gone) == {"aborted": True}
        await desk.release("a")
        await first
        await desk.post("agents/my-agent/send-message", {"message": "next", **where("t")})
        chunks = await ear.until("finish", 2)
    assert queued["runId"] not in [chunk["runId"] for chunk in chunks]


async def test_plain_and_durable_agents_share_a_thread(desk: Desk) -> None:
    async with desk.heard("POST", "agents/my-agent/threads/subscribe", where("t")) as ear:
        await desk.post("agents/durable-agent/send-message", {"message": "one", **where("t")})
        await ear.until("finish")
        await desk.post("agents/my-agent/send-message", {"message": "two", **where("t")})
        chunks = await ear.until("finish", 2)
    assert [chunk["payload"]["id"] for chunk in chunks if chunk["type"] == "start"] == ["durable-agent", "my-agent"]
    assert await roles(desk, "my-agent", "t") == ["signal", "assistant"] * 2


@pytest.mark.parametrize("agent", ["my-agent", "durable-agent"])
async def test_a_signal_that_is_sent_again_begins_nothing_twice(desk: Desk, agent: str) -> None:
    body = {"signal": {"id": "s-1", "type": "user-message", "contents": "once"}, **where("t")}
    async with desk.heard("POST", f"agents/{agent}/threads/subscribe", where("t")) as ear:
        sent = [await desk.post(f"agents/{agent}/signals", body) for _ in range(2)]
        assert {each["signal"]["id"] for each in sent} == {"s-1"}
        await ear.until("finish")
        await desk.post(f"agents/{agent}/signals", body)
    assert await roles(desk, agent, "t") == ["signal", "assistant"]


async def test_followers_are_let_go_when_the_server_stops(desk: Desk) -> None:
    async with (
        desk.heard("POST", "agents/my-agent/threads/subscribe", where("t")) as ear,
        desk.heard("GET", "background-tasks/stream") as tasks,
    ):
        async with asyncio.timeout(30):
            while not ear.comments:
                await asyncio.sleep(0.01)
            desk.node.hang_up()
            await ear.over.wait()
            while not tasks.over.is_set():
                # Its stream may not have begun when the server hung up.
                desk.node.hang_up()
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("agent", ["bg-agent", "durable-bg"])
async def test_background_tasks_are_followed_ended_and_answered(desk: Desk, agent: str) -> None:
    async with desk.heard("GET", f"background-tasks/stream?agentId={agent}") as ear:
        research = '!tools research {"topic":"gated x"} | bgAsk {"question":"?"}'
        await desk.stream(agent, research, "t")
        await ear.until("background-task-suspended")
        listed = await desk.get(f"background-tasks?agentId={agent}&orderBy=createdAt&orderDirection=desc")
        assert listed["total"] == 2 and {each["toolName"] for each in listed["tasks"]} == {"research", "bgAsk"}
        (going,) = (await desk.get(f"background-tasks?agentId={agent}&toolName=research&perPage=1"))["tasks"]
        by_call = await desk.get(f"background-tasks?toolCallId={going['toolCallId']}&fromDate=2020-01-01T00:00:00Z")
        assert [each["id"] for each in by_call["tasks"]] == [going["id"]]
        assert await desk.post(f"background-tasks/{going['id']}/cancel", {}) == {"cancelled": True}
        assert await desk.post(f"background-tasks/{going['id']}/cancel", {}) == {"cancelled": False}
        (asks,) = (await desk.get(f"background-tasks?agentId={agent}&status=suspended"))["tasks"]
        assert "issues" in await desk.post(f"background-tasks/{asks['id']}/resume", {}, 400)
        await desk.post(f"background-tasks/{asks['id']}/resume", {"resumeData": {"answer": "yes"}})
        await ear.until("background-task-completed")
        assert (await desk.get(f"background-tasks/{asks['id']}"))["result"] == "yes"
        await desk.post(f"background-tasks/{asks['id']}/resume", {"resumeData": {"answer": "no"}}, 410)
    response = await desk.http.get(f"/api/background-tasks/stream?taskId={asks['id']}")
    assert kinds(frames_of(response.text)).endswith("background-task-completed")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=done", "status"),
        ("orderBy=name", "orderBy"),
        ("orderDirection=up", "orderDirection"),
        ("fromDate=soon", "fromDate"),
        ("page=-1", "page"),
    ],
)
async def test_a_mistake_in_a_query_about_tasks_is_named(desk: Desk, query: str, field: str) -> None:
    told = await desk.get(f"background-tasks?{query}", 400)
    assert [issue["field"] for issue in told["issues"]] == [field]
    await desk.get("background-tasks/stream?taskId=nope", 404)

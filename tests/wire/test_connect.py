"""Connect over sockets: the handshake, calls and their answers, and what becomes of runs when workers come and go."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx2
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from perdure.model.keys import EventKey, Keys, SigningKey
from perdure.server import Guard, make_app, worker_socket
from perdure.wire import connect as wire
from perdure.wire import protobuf
from perdure.wire.connect import Kind, Status
from tests.support.sockets import Served, served

with warnings.catch_warnings():
    # Of the way in which the SDK uses pydantic.
    warnings.simplefilter("ignore")
    from inngest.connect._internal import connect_pb2 as theirs

SIGNING = "signkey-prod-" + "0123456789abcdef" * 4
APP = "conn-app"
ONE = f"{APP}-one"


@pytest.fixture
async def server() -> AsyncGenerator[Served, None]:
    async with served() as started:
        yield started


@pytest.fixture
async def locked() -> AsyncGenerator[Served, None]:
    guard = Guard(Keys([EventKey.parse("events")], [SigningKey.parse(SIGNING)]), kind="cloud")
    async with served(lambda node: make_app(node, guard)) as started:
        yield started


def function(name: str, app: str = APP, retries: int | None = None, **more: Any) -> dict[str, Any]:
    """A function as SDKs declare it to the gateway."""
    step: dict[str, Any] = {
        "id": "step",
        "name": "step",
        "runtime": {"type": "ws", "url": f"wss://connect?fnId={app}-{name}&stepId=step"},
    }
    if retries is not None:
        step["retries"] = {"attempts": retries}
    return {
        "id": f"{app}-{name}",
        "name": name,
        "triggers": [{"event": f"conn/{name}"}],
        "steps": {"step": step},
        **more,
    }


async def start(server: Served, **headers: str) -> wire.StartResponse:
    response = await server.http.post("/v0/connect/start", content=b"", headers=headers)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/octet-stream"
    return wire.decode(wire.StartResponse, response.content)


class FakeWorker:
    """A worker that does what the test says."""

    def __init__(self, socket: ClientConnection, started: wire.StartResponse) -> None:
        self.socket = socket
        self.started = started

    async def heard(self) -> wire.Frame:
        data = await self.socket.recv()
        assert isinstance(data, bytes)
        return wire.decode(wire.Frame, data)

    async def expect(self, kind: Kind) -> bytes:
        got = await self.heard()
        assert Kind(got.kind) == kind
        return got.payload

    async def says(self, kind: Kind, record: wire.Record | None = None) -> None:
        await self.socket.send(wire.frame(kind, record))

    def introduction(self, *functions: dict[str, Any], **more: Any) -> wire.WorkerConnect:
        said = wire.WorkerConnect(
            connection_id=self.started.connection_id,
            instance_id="one",
            auth_data=wire.AuthData(self.started.session_token),
            capabilities=b'{"connect":"v1"}',
            apps=[wire.AppConfiguration(APP, None, json.dumps(functions).encode())],
            worker_manual_readiness_ack=True,
            system_attributes=wire.SystemAttributes(2, 1024, "linux"),
            framework="connect",
            sdk_version="v4.24.0",
            sdk_language="typescript",
        )
        for name, value in more.items():
            setattr(said, name, value)
        return said

    async def request(self) -> wire.ExecutorRequest:
        """The next call, which the worker acknowledges."""
        got = wire.decode(wire.ExecutorRequest, await self.expect(Kind.GATEWAY_EXECUTOR_REQUEST))
        await self.says(Kind.WORKER_REQUEST_ACK, wire.RequestAck(got.request_id))
        return got

    async def answers(self, request: wire.ExecutorRequest, body: object, **more: Any) -> None:
        await self.says(Kind.WORKER_REPLY, self.response(request, body, **more))
        acknowledged = wire.decode(wire.ReplyAck, await self.expect(Kind.WORKER_REPLY_ACK))
        assert acknowledged.request_id == request.request_id

    def response(self, request: wire.ExecutorRequest, body: object, **more: Any) -> wire.SdkResponse:
        content = json.dumps(body).encode()
        return wire.SdkResponse(
            request.request_id, body=content, sdk_version="inngest-js:v4.24.0", request_version=2, **more
        )

    async def closing(self) -> tuple[int, str]:
        """How the server closes the connection."""
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                await self.heard()
        assert caught.value.rcvd is not None
        return caught.value.rcvd.code, caught.value.rcvd.reason


@asynccontextmanager
async def opened(server: Served, **headers: str) -> AsyncGenerator[FakeWorker, None]:
    """A connection that has been greeted."""
    started = await start(server, **headers)
    async with connect_socket(
        started.gateway_endpoint, proxy=None, subprotocols=[Subprotocol(wire.SUBPROTOCOL)]
    ) as socket:
        worker = FakeWorker(socket, started)
        await worker.expect(Kind.GATEWAY_HELLO)
        yield worker


@asynccontextmanager
async def connected(server: Served, *functions: dict[str, Any], **more: Any) -> AsyncGenerator[FakeWorker, None]:
    """A worker that is ready."""
    async with opened(server) as worker:
        await worker.says(Kind.WORKER_CONNECT, worker.introduction(*(functions or (function("one"),)), **more))
        ready = wire.decode(wire.ConnectionReady, await worker.expect(Kind.GATEWAY_CONNECTION_READY))
        assert ready == wire.ConnectionReady("10s", "5s", "0s")
        await worker.says(Kind.WORKER_READY)
        await worker.says(Kind.WORKER_HEARTBEAT)
        # It is answered in order: the server knows that the worker is ready.
        await worker.expect(Kind.GATEWAY_HEARTBEAT)
        yield worker


async def run_of(server: Served, event: str) -> str:
    """Sends an event; returns the run that it starts."""
    response = await server.wire.send({"name": event, "data": {}})
    (handle,) = await server.node.runs_of(response.json()["ids"][0])
    return handle.run_id


async def told(server: Served, run_id: str) -> dict[str, Any]:
    response = await server.http.get(f"/v1/runs/{run_id}")
    data: dict[str, Any] = response.json()["data"]
    return data


async def gone(server: Served) -> None:
    """Waits until the server has noticed that its workers left."""
    while server.node.workers.workers:
        await asyncio.sleep(0)


def op(name: str, step_id: str, **more: Any) -> dict[str, Any]:
    return {"op": name, "id": step_id, "name": step_id, **more}


# The messages.


def _shape(field: FieldDescriptor) -> tuple[int, bool, bool, int]:
    varint = {
        FieldDescriptor.TYPE_ENUM: FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_INT32: FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_UINT32: FieldDescriptor.TYPE_INT64,
    }
    return field.number, field.is_repeated, field.has_presence, varint.get(field.type, field.type)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (wire.Frame, "ConnectMessage"),
        (wire.StartRequest, "StartRequest"),
        (wire.StartResponse, "StartResponse"),
        (wire.AuthData, "AuthData"),
        (wire.AppConfiguration, "AppConfiguration"),
        (wire.SystemAttributes, "SystemAttributes"),
        (wire.WorkerConnect, "WorkerConnectRequestData"),
        (wire.ConnectionReady, "GatewayConnectionReadyData"),
        (wire.ExecutorRequest, "GatewayExecutorRequestData"),
        (wire.RequestAck, "WorkerRequestAckData"),
        (wire.ExtendLease, "WorkerRequestExtendLeaseData"),
        (wire.ExtendLeaseAck, "WorkerRequestExtendLeaseAckData"),
        (wire.SdkResponse, "SDKResponse"),
        (wire.ReplyAck, "WorkerReplyAckData"),
        (wire.FlushResponse, "FlushResponse"),
        (wire.SyncFailed, "SystemError"),
    ],
)
def test_messages_are_those_of_the_sdk(kind: type[wire.Record], name: str) -> None:
    known: Descriptor = theirs.DESCRIPTOR.message_types_by_name[name]
    ours = cast(Descriptor, protobuf._message_class(kind).DESCRIPTOR)
    assert {field.name: _shape(field) for field in ours.fields if field.name in known.fields_by_name} == {
        field.name: _shape(field) for field in known.fields if field.name != "started_at"
    }


def test_kinds_are_those_of_the_sdk() -> None:
    assert {kind.name: kind.value for kind in Kind if kind.name != "WORKER_STATUS"} == dict(
        theirs.GatewayMessageType.items()
    )
    assert {status.name: status.value for status in Status} == dict(theirs.SDKResponseStatus.items())


def test_bytes_are_read_by_the_sdk_and_back() -> None:
    ours = wire.WorkerConnect("c", "i", wire.AuthData("t"), b"{}", [wire.AppConfiguration("a", "1", b"[]")], True)
    ours.max_worker_concurrency = 0
    read = theirs.WorkerConnectRequestData.FromString(wire.encode(ours))
    assert (read.apps[0].app_version, read.HasField("max_worker_concurrency"), read.HasField("platform")) == (
        "1",
        True,
        False,
    )
    read.started_at.GetCurrentTime()
    assert wire.decode(wire.WorkerConnect, read.SerializeToString()) == ours


# The handshake.


async def test_a_start_says_where_and_with_what_to_connect(server: Served) -> None:
    started = await start(server)
    assert started.gateway_endpoint == server.ws("/v0/connect")
    assert len(started.connection_id) == 26
    assert started.session_token.count(".") == 2
    again = await server.http.post("/v0/connect/start", content=wire.encode(wire.StartRequest(["gw-perdure"])))
    assert wire.decode(wire.StartResponse, again.content).connection_id != started.connection_id
    bad = await server.http.post("/v0/connect/start", content=b"\xff\xff")
    assert bad.status_code == 400


async def test_a_worker_registers_its_apps_and_is_shown(server: Served) -> None:
    async with connected(server, max_worker_concurrency=5) as worker:
        assert worker.socket.subprotocol == wire.SUBPROTOCOL
        (shown,) = (await server.http.get("/v0/connect/envs/dev/conns")).json()["data"]
        assert shown["id"] == worker.started.connection_id
        assert (shown["instance_id"], shown["status"], shown["sdk_language"]) == ("one", 1, "typescript")
        assert shown["attributes"] == {"cpu_cores": 2, "mem_bytes": 1024, "os": "linux"}
        ((app, group_hash),) = shown["all_worker_groups"].items()
        assert app == APP
        assert list(shown["synced_worker_groups"].values()) == [group_hash]
        group = (await server.http.get(f"/v0/connect/envs/dev/groups/{group_hash}")).json()["data"]
        assert (group["synced"], group["fns"], group["conns"]) == (True, [ONE], [shown["id"]])
        assert (await server.http.get("/v0/connect/envs/dev/groups/unknown")).status_code == 404
        assert (await server.http.get("/v0/connect/envs/dev/conns?app_id=other")).json() == {"data": []}
        row = server.node.registry.get(APP)
        assert row is not None
        assert (row.method, row.sdk) == ("connect", "js:v4.24.0")
    await gone(server)
    assert (await server.http.get("/v0/connect/envs/dev/conns")).json() == {"data": []}


async def test_a_worker_that_needs_no_second_word_is_ready_at_once(server: Served) -> None:
    async with opened(server) as worker:
        said = worker.introduction(function("one"), worker_manual_readiness_ack=False)
        await worker.says(Kind.WORKER_CONNECT, said)
        await worker.expect(Kind.GATEWAY_CONNECTION_READY)
        run_id = await run_of(server, "conn/one")
        assert (await worker.request()).run_id == run_id


async def test_what_a_worker_says_too_early_is_heard_when_it_has_introduced_itself(server: Served) -> None:
    async with connected(server) as worker:
        run_id = await run_of(server, "conn/one")
        request = await worker.request()
    async with opened(server) as again:
        await again.says(Kind.WORKER_HEARTBEAT)
        await again.says(Kind.WORKER_REQUEST_EXTEND_LEASE, wire.ExtendLease(request.request_id))
        await again.says(Kind.WORKER_REPLY, again.response(request, "done", status=Status.DONE))
        await again.says(Kind.WORKER_CONNECT, again.introduction(function("one")))
        kinds = [(await again.heard()).kind for _ in range(4)]
        assert kinds == [
            Kind.GATEWAY_CONNECTION_READY,
            Kind.GATEWAY_HEARTBEAT,
            Kind.WORKER_REQUEST_EXTEND_LEASE_ACK,
            Kind.WORKER_REPLY_ACK,
        ]
        await server.node.settle()
        assert (await told(server, run_id))["status"] == "Completed"


async def test_a_worker_that_goes_on_too_long_before_it_introduces_itself_is_refused(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_socket, "_MAX_EARLY", 3)
    async with opened(server) as worker:
        for _ in range(2):
            await worker.says(Kind.WORKER_HEARTBEAT)
        assert await worker.closing() == (1008, "connect_worker_hello_invalid_msg")


async def test_a_worker_that_says_nothing_is_sent_away(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_socket, "_HELLO_WITHIN", 0.01)
    async with opened(server) as worker:
        assert await worker.closing() == (1008, "connect_worker_hello_timeout")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff", "connect_worker_hello_invalid_msg"),
        (wire.frame(Kind.WORKER_READY), "connect_worker_hello_invalid_msg"),
        (wire.encode(wire.Frame(Kind.WORKER_CONNECT, b"\xff")), "connect_worker_hello_invalid_payload"),
        ("text", "connect_worker_invalid_msg"),
    ],
)
async def test_what_is_no_introduction_is_refused(server: Served, data: bytes | str, reason: str) -> None:
    async with opened(server) as worker:
        await worker.socket.send(data)
        assert await worker.closing() == (1008, reason)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"instance_id": ""}, "connect_worker_hello_invalid_payload"),
        ({"connection_id": "mine"}, "connect_worker_hello_invalid_payload"),
        ({"apps": []}, "connect_worker_hello_invalid_payload"),
        ({"apps": [wire.AppConfiguration("a"), wire.AppConfiguration("a")]}, "connect_worker_hello_invalid_payload"),
        (
            {"apps": [wire.AppConfiguration(f"a{number}") for number in range(101)]},
            "connect_too_many_apps_per_connection",
        ),
        ({"auth_data": None}, "connect_authentication_failed"),
        ({"auth_data": wire.AuthData("no.token.atall")}, "connect_authentication_failed"),
        ({"connection_id": "01HF7YAT000000000000000001"}, "connect_authentication_failed"),
        ({"apps": [wire.AppConfiguration("a", None, b"{")]}, "connect_invalid_function_config"),
        ({"apps": [wire.AppConfiguration("a", None, b"{}")]}, "connect_invalid_function_config"),
    ],
)
async def test_an_introduction_that_cannot_be_taken_is_refused(
    server: Served, more: dict[str, Any], reason: str
) -> None:
    async with opened(server) as worker:
        await worker.says(Kind.WORKER_CONNECT, worker.introduction(function("one"), **more))
        assert await worker.closing() == (1008, reason)
    assert server.node.workers.workers == []


async def test_a_session_ends(server: Served) -> None:
    async with opened(server) as worker:
        await server.wire.clock.advance("5m")
        await worker.says(Kind.WORKER_CONNECT, worker.introduction(function("one")))
        assert await worker.closing() == (1008, "connect_authentication_failed")


async def test_functions_that_are_wrong_are_told_to_the_worker(server: Served) -> None:
    async with opened(server) as worker:
        wrong = function("one", debounce={"period": "soon"})
        await worker.says(Kind.WORKER_CONNECT, worker.introduction(wrong))
        failed = wire.decode(wire.SyncFailed, await worker.expect(Kind.SYNC_FAILED))
        assert failed.code == "connect_invalid_function_config"
        assert ONE in failed.message
        assert "debounce.period" in failed.message
        assert await worker.closing() == (1008, "connect_invalid_function_config")


async def test_a_connection_is_used_once(server: Served) -> None:
    async with connected(server) as worker, connect_socket(worker.started.gateway_endpoint, proxy=None) as socket:
        second = FakeWorker(socket, worker.started)
        await second.expect(Kind.GATEWAY_HELLO)
        await second.says(Kind.WORKER_CONNECT, second.introduction(function("one")))
        assert await second.closing() == (1008, "connect_worker_hello_invalid_payload")
        assert len(server.node.workers.workers) == 1


async def test_with_keys_a_start_needs_the_signing_key_and_a_connection_the_token(locked: Served) -> None:
    assert (await locked.http.post("/v0/connect/start")).status_code == 401
    assert (await locked.http.post("/v0/connect/flush", content=b"")).status_code == 401
    assert (await locked.http.get("/v0/connect/envs/dev/conns")).status_code == 401
    async with opened(locked, authorization=f"Bearer {SIGNING}") as worker:
        await worker.says(Kind.WORKER_CONNECT, worker.introduction(function("one")))
        await worker.expect(Kind.GATEWAY_CONNECTION_READY)


# Runs.


async def test_a_run_is_carried_out_by_a_worker(server: Served) -> None:
    async with connected(server) as worker:
        run_id = await run_of(server, "conn/one")
        first = await worker.request()
        assert (first.app_name, first.function_slug, first.run_id) == (APP, ONE, run_id)
        body = json.loads(first.request_payload)
        assert (body["event"]["name"], body["steps"], body["ctx"]["attempt"]) == ("conn/one", {}, 0)
        await worker.answers(first, [op("StepRun", "a", data=1)])
        second = await worker.request()
        assert json.loads(second.request_payload)["steps"] == {"a": {"data": 1}}
        await worker.answers(second, [op("RunComplete", "end", data="done")])
        await server.node.settle()
        run = await told(server, run_id)
        assert (run["status"], run["output"]) == ("Completed", "done")


async def test_done_with_no_retry_is_a_failure(server: Served) -> None:
    async with connected(server) as worker:
        run_id = await run_of(server, "conn/one")
        error = {"name": "Error", "message": "conn boom", "stack": "Error: conn boom"}
        await worker.answers(await worker.request(), error, status=Status.DONE, no_retry=True)
        await server.node.settle()
        run = await told(server, run_id)
        assert (run["status"], run["output"]["message"]) == ("Failed", "conn boom")


async def test_an_error_is_tried_again_when_the_worker_says(server: Served) -> None:
    async with connected(server, function("one", retries=1)) as worker:
        run_id = await run_of(server, "conn/one")
        await worker.answers(
            await worker.request(), {"name": "Error", "message": "later"}, status=Status.ERROR, retry_after="30"
        )
        await server.node.settle()
        await server.wire.clock.advance("29s")
        assert not server.node.workers.workers[0].requests
        advancing = asyncio.create_task(server.wire.clock.advance("1s"))
        again = await worker.request()
        assert json.loads(again.request_payload)["ctx"]["attempt"] == 1
        await worker.answers(again, "done", status=Status.DONE)
        await advancing
        await server.node.settle()
        assert (await told(server, run_id))["status"] == "Completed"


async def test_runs_wait_for_a_worker_and_lose_no_attempt(server: Served) -> None:
    async with connected(server, function("one", retries=0)):
        pass
    await gone(server)
    run_id = await run_of(server, "conn/one")
    await server.node.settle()
    await server.wire.clock.advance("1h")
    assert (await told(server, run_id))["status"] not in ("Failed", "Completed")
    async with connected(server, function("one", retries=0)) as worker:
        request = await worker.request()
        assert json.loads(request.request_payload)["ctx"]["attempt"] == 0
        await worker.answers(request, "done", status=Status.DONE)
        await server.node.settle()
        assert (await told(server, run_id))["status"] == "Completed"


@pytest.mark.only_sqlite("its clock is moved while the call that is to give up begins")
async def test_a_run_whose_worker_leaves_between_two_steps_loses_no_attempt(server: Served) -> None:
    async with connected(server, function("one", retries=0)) as worker:
        run_id = await run_of(server, "conn/one")
        request = await worker.request()
        await worker.says(Kind.WORKER_PAUSE)
        await worker.answers(request, [op("StepRun", "a", data=1)])
    await gone(server)
    # A call that waits for a worker does not come to rest before its time is over.
    clock = server.wire.clock
    clock.detach(server.node.settle)
    await clock.advance("11s")
    clock.attach(server.node.settle)
    await clock.advance("10m")
    assert (await told(server, run_id))["status"] == "Running"
    async with connected(server, function("one", retries=0)) as worker:
        request = await worker.request()
        body = json.loads(request.request_payload)
        assert (body["ctx"]["attempt"], body["steps"]) == (0, {"a": {"data": 1}})
        await worker.answers(request, "done", status=Status.DONE)
        await server.node.settle()
        assert (await told(server, run_id))["output"] == "done"


async def test_two_versions_of_an_app_serve_side_by_side(server: Served) -> None:
    async with (
        connected(server, function("one"), instance_id="old") as old,
        connected(server, function("one"), function("two"), instance_id="new") as new,
    ):
        await run_of(server, "conn/two")
        assert (await new.request()).function_slug == f"{APP}-two"
        await run_of(server, "conn/one")
        assert (await old.request()).function_slug == ONE, "it has less to do"
        # The old version comes back, as after a break of its connection: the new one stays in force.
        await old.socket.close()
        async with connected(server, function("one"), instance_id="old"):
            assert f"{APP}-two" in server.node.catalogue.functions


async def test_an_answer_can_be_posted(server: Served) -> None:
    async with connected(server) as worker:
        run_id = await run_of(server, "conn/one")
        request = await worker.request()
    await gone(server)
    content = wire.encode(worker.response(request, "late", status=Status.DONE))
    response = await server.http.post("/v0/connect/flush", content=content)
    assert wire.decode(wire.FlushResponse, response.content).request_id == request.request_id
    await server.node.settle()
    assert (await told(server, run_id))["output"] == "late"
    # Again, as when the answer was lost: nobody waits for it, and the worker need not try once more.
    assert (await server.http.post("/v0/connect/flush", content=content)).status_code == 200


@pytest.mark.parametrize("content", [b"", b"\xff\xff", wire.encode(wire.SdkResponse(body=b"[]"))])
async def test_what_is_no_answer_cannot_be_posted(server: Served, content: bytes) -> None:
    response: httpx2.Response = await server.http.post("/v0/connect/flush", content=content)
    assert response.status_code == 400


async def test_a_malformed_frame_ends_the_connection_and_nothing_else(server: Served) -> None:
    async with connected(server) as worker:
        run_id = await run_of(server, "conn/one")
        request = await worker.request()
        await worker.socket.send(wire.encode(wire.Frame(Kind.WORKER_REPLY, b"\xff")))
        assert await worker.closing() == (1008, "connect_worker_reply_invalid_payload")
    async with connected(server) as worker:
        await worker.answers(request, "done", status=Status.DONE)
        await server.node.settle()
        assert (await told(server, run_id))["status"] == "Completed"


async def test_workers_are_heard_out_and_sent_away_when_the_server_stops(server: Served) -> None:
    async with connected(server) as worker:
        run_id = await run_of(server, "conn/one")
        request = await worker.request()
        stopping = asyncio.create_task(server.stop())
        await worker.answers(request, "done", status=Status.DONE)
        await worker.expect(Kind.GATEWAY_CLOSING)
        assert await worker.closing() == (1001, "connect_gateway_closing")
        await stopping
    await server.node.settle()
    assert await server.node.run(run_id).result() == "done"


async def test_a_worker_that_talks_and_never_listens_is_cut_off(
    server: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_socket, "_MAX_BACKLOG", 3)
    held = asyncio.Event()

    async def stuck(self: WebSocket, data: bytes) -> None:
        await held.wait()

    async with connected(server) as worker:
        # As when its buffers are full.
        monkeypatch.setattr(WebSocket, "send_bytes", stuck)
        for _ in range(5):
            await worker.says(Kind.WORKER_HEARTBEAT)
        with pytest.raises(ConnectionClosed):
            await worker.heard()
        await gone(server)
    assert "does not take what it is sent" in caplog.text

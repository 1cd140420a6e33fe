"""The gateway: the requests it makes, what it gives back, and how it fails."""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
from typing import Any

import pytest

from perdure.apps.addresses import is_public
from perdure.apps.gateway import Gateway, GatewayFailure, redacted
from perdure.model.json import Json, decode
from perdure.model.limits import MAX_STEP_BYTES
from tests.support.hostile_app import MODES, HostileApp, Mode, hostile

KEY = "sk-very-secret"
NOW = 1_800_000_000_000


class Gate(Gateway):
    """A gateway that a block closes."""

    async def __aenter__(self) -> Gate:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def fetch(self, url: str, **opts: Json) -> Json:
        return decode(await self.perform("Gateway", {"url": url, **opts}))

    async def infer(self, url: str, **opts: Json) -> Json:
        given: dict[str, Json] = {"url": url, "auth_key": KEY, "format": "openai-chat", "body": {"model": "m"}, **opts}
        return decode(await self.perform("AIGateway", given))

    async def failure(self, kind: str, opts: dict[str, Json]) -> GatewayFailure:
        with pytest.raises(GatewayFailure) as raised:
            await self.perform(kind, opts)
        return raised.value


def header(app: HostileApp, name: str) -> str | None:
    """A header of the last request."""
    for line in app.heads[-1].split("\r\n")[1:]:
        found, _, value = line.partition(": ")
        if found.lower() == name.lower():
            return value
    return None


async def test_a_fetch_sends_what_it_is_given_and_nothing_else() -> None:
    async with hostile() as app, Gate() as gate:
        await gate.fetch(app.url, method="put", headers={"x-a": "b", "n": 1}, body='{"hi": 1}')
    assert app.heads[0].startswith("PUT /api/inngest?fnId=app-fn&stepId=step HTTP/1.1\r\n")
    assert app.requests == [b'{"hi": 1}']
    names = sorted(line.partition(":")[0].lower() for line in app.heads[0].strip().split("\r\n")[1:])
    assert names == ["accept-encoding", "content-length", "host", "n", "user-agent", "x-a"]
    assert header(app, "user-agent") == "Inngest" and header(app, "accept-encoding") == "gzip"
    assert header(app, "n") == "1"


async def test_a_fetch_may_name_its_own_agent_and_send_any_value() -> None:
    async with hostile() as app, Gate() as gate:
        await gate.fetch(app.url, method="POST", headers={"user-agent": "mine"}, body={"a": [1, 2]})
        await gate.fetch(app.url)
    assert header(app, "user-agent") == "Inngest"
    assert app.requests == [b'{"a":[1,2]}', b""]
    assert "user-agent: mine" in app.heads[0] and "Inngest" not in app.heads[0]
    assert app.heads[1].startswith("GET ")


async def test_the_result_of_a_fetch_has_the_shape_of_the_protocol() -> None:
    async with hostile() as app, Gate() as gate:
        app.status, app.body = 404, "grün".encode()
        app.headers = {"content-TYPE": "text/plain; charset=utf-8", "x-a": "1", "X-A": "2", "connection": "keep-alive"}
        found = await gate.fetch(app.url)
    assert found == {
        "url": app.url,
        "status_code": 404,
        "body": "grün",
        "headers": {"Content-Type": "text/plain; charset=utf-8", "X-A": "1, 2", "Content-Length": "5"},
    }


async def test_an_unpacked_answer_does_not_say_that_it_is_packed() -> None:
    async with hostile() as app, Gate() as gate:
        app.body = gzip.compress(b"hello")
        app.headers = {"content-type": "text/html", "content-encoding": "gzip"}
        found = await gate.fetch(app.url)
    assert found["body"] == "hello"
    assert found["headers"] == {"Content-Type": "text/html"}


@pytest.mark.parametrize("charset", ["hex", "nonsense", "zlib"])
async def test_an_answer_in_no_charset_is_read_all_the_same(charset: str) -> None:
    async with hostile() as app, Gate() as gate:
        app.body, app.headers = b"a\xff", {"content-type": f"text/plain; charset={charset}"}
        assert (await gate.fetch(app.url))["body"] == "a\ufffd"


async def test_nobody_gets_the_cookies_of_another() -> None:
    async with hostile() as app, Gate() as gate:
        app.headers = {"set-cookie": "session=1; path=/"}
        await gate.fetch(app.url)
        await gate.fetch(app.url)
    assert header(app, "cookie") is None


@pytest.mark.parametrize(
    ("format", "name", "value"),
    [
        ("openai-chat", "authorization", f"Bearer {KEY}"),
        ("openai-responses", "authorization", f"Bearer {KEY}"),
        ("nobody knows", "authorization", f"Bearer {KEY}"),
        (None, "authorization", f"Bearer {KEY}"),
        ("anthropic", "x-api-key", KEY),
        ("gemini", "x-goog-api-key", KEY),
        ("azure-openai", "api-key", KEY),
        ("bedrock", "authorization", KEY),
    ],
)
async def test_the_key_goes_where_the_format_has_it(format: str | None, name: str, value: str) -> None:
    async with hostile() as app, Gate() as gate:
        assert await gate.infer(app.url, format=format) == {"ok": True}
    assert header(app, name) == value
    assert app.heads[0].count(KEY) == 1
    assert app.heads[0].startswith("POST ") and header(app, "content-type") == "application/json"
    assert app.requests == [b'{"model":"m"}']


async def test_the_key_of_gemini_may_be_in_the_url_and_headers_may_be_given() -> None:
    async with hostile() as app, Gate() as gate:
        await gate.infer(f"{app.url}&key={KEY}", format="gemini", headers={"anthropic-version": "1"})
        assert app.heads[0].count(KEY) == 1
        await gate.infer(app.url, headers={"authorization": "Basic xyz"}, auth_key="")
        await gate.infer(app.url, headers={"authorization": "Basic xyz"})
    assert header(app, "authorization") == "Basic xyz" and KEY not in app.heads[2]


async def test_a_providers_answer_is_given_as_it_is() -> None:
    async with hostile() as app, Gate() as gate:
        app.body = b'{"n": 12345678901234567890123, "f": 1.10}'
        assert await gate.perform("AIGateway", {"url": app.url, "body": {}}) == app.body
        app.body = b"data: one\n\ndata: two\n\n"
        assert await gate.infer(app.url, publish={"channel": "c", "topic": "t"}) == "data: one\n\ndata: two\n\n"


@pytest.mark.parametrize(
    ("retry_after", "delay"), [(None, None), ("3", 3000), ("Fri, 15 Jan 2027 08:00:30 GMT", 30_000), ("soon", None)]
)
async def test_a_provider_that_refuses_is_asked_again_when_it_says(retry_after: str | None, delay: int | None) -> None:
    async with hostile() as app, Gate(now=lambda: NOW) as gate:
        app.status, app.body = 429, b'{"error":{"message":"slow down, %s"}}' % KEY.encode()
        app.headers = {"content-type": "application/json", **({"retry-after": retry_after} if retry_after else {})}
        failure = await gate.failure("AIGateway", {"url": app.url, "auth_key": KEY, "body": {}})
    assert (failure.retry_after, failure.no_retry) == (delay, False)
    info = failure.info
    assert info.name == "AIGatewayError"
    assert info.message == (
        f'Error making AI request: 127.0.0.1:{app.port} answered 429: {{"error":{{"message":"slow down, [redacted]"}}}}'
    )
    assert info.data == {"error": {"message": "slow down, [redacted]"}}
    assert decode(info.stack) == info.data


async def test_a_provider_may_refuse_at_length_or_not_in_json() -> None:
    async with hostile() as app, Gate() as gate:
        app.status, app.body = 500, b"<html>" * 100_000
        failure = await gate.failure("AIGateway", {"url": app.url, "body": {}})
        assert len(failure.info.message) < 1200 and len(failure.info.stack) == 20_000
        assert failure.info.data == failure.info.stack
        app.status, app.body = 503, b""
        failure = await gate.failure("AIGateway", {"url": app.url, "body": {}})
        assert failure.info.message.endswith("answered 503: nothing")


async def test_a_model_is_asked_at_no_other_place() -> None:
    async with hostile("redirects_for_ever") as app, Gate() as gate:
        failure = await gate.failure("AIGateway", {"url": app.url, "auth_key": KEY, "body": {}})
    assert "answered 307" in failure.info.message and len(app.requests) == 1


def closed_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.mark.parametrize(
    ("kind", "prefix"),
    [
        ("Gateway", "GatewayError: Error making gateway request: Unable to reach SDK URL"),
        ("AIGateway", "AIGatewayError: Error making AI request"),
    ],
)
async def test_no_answer_is_a_failure_to_retry_that_shows_no_secret(
    kind: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"http://127.0.0.1:{closed_port()}/x?key={KEY}&token=t%2Fk%20n"
    if kind == "Gateway":
        url = url.replace("//", "//user:pa55word@")
    async with Gate() as gate:
        failure = await gate.failure(kind, {"url": url, "auth_key": KEY, "headers": {"x-token": "abcd"}, "body": {}})
    assert (failure.retry_after, failure.no_retry) == (None, False)
    said = str(failure)
    assert said.startswith(f"{prefix}: no answer from http://")
    for secret in (KEY, "pa55word", "t%2Fk", "t/k n", "abcd"):
        assert secret not in said + failure.info.stack + repr(failure.info.data) + caplog.text, secret
    assert failure.__cause__ is None and failure.__suppress_context__


@pytest.mark.parametrize(
    ("opts", "problem"),
    [
        ({}, "url: must be"),
        ({"url": 5}, "url: must be"),
        ({"url": "file:///etc/passwd"}, "url: must be"),
        ({"url": "http://"}, "url: names no host and port"),
        ({"url": "http://[::1"}, "url: Invalid IPv6 URL"),
        ({"url": "http://x.test", "headers": [1]}, "headers: must be"),
        ({"url": "http://x.test", "auth_key": {"a": 1}}, "auth_key: must be"),
        ({"url": "http://x.test", "method": ["GET"]}, "method: must be"),
        ({"url": "http://x.test:999999"}, "url: Port out of range"),
        ({"url": "http://127.0.0.1:0/"}, "url: names no host and port"),
        ({"url": "http://2130706433/"}, "is not a canonical IPv4 address"),
    ],
)
@pytest.mark.parametrize("kind", ["Gateway", "AIGateway"])
async def test_what_can_never_be_sent_is_not_retried(kind: str, opts: dict[str, Json], problem: str) -> None:
    if kind == "AIGateway" and "method" in opts:
        opts = {**opts, "url": None}
        problem = "url: must be"
    async with Gate() as gate:
        failure = await gate.failure(kind, opts)
    assert failure.no_retry
    assert problem in failure.info.message


@pytest.mark.parametrize(
    "opts", [{"method": "GE T\r\nx: y"}, {"headers": {"a": "b\r\nc: d"}}, {"headers": {"a\nb": "c"}}]
)
async def test_nothing_is_smuggled_into_a_request(opts: dict[str, Json]) -> None:
    async with hostile() as app, Gate() as gate:
        failure = await gate.failure("Gateway", {"url": app.url, **opts})
    assert failure.no_retry and app.requests == []


@pytest.mark.parametrize(
    "mode", ["oversized", "oversized_until_closed", "oversized_chunks", "endless_chunks", "gzip_bomb"]
)
async def test_an_answer_that_is_too_large_is_left_unread(mode: Mode) -> None:
    async with hostile(mode) as app, Gate() as gate:
        failure = await gate.failure("Gateway", {"url": app.url})
        assert failure.no_retry and f"larger than {MAX_STEP_BYTES} bytes" in failure.info.message
        app.mode = "answers"
        assert (await gate.fetch(app.url))["body"] == '{"ok":true}'


async def test_an_answer_that_grows_too_large_as_json_is_refused() -> None:
    async with hostile() as app, Gate() as gate:
        app.body = b"\n" * (MAX_STEP_BYTES // 2 + 1)
        failure = await gate.failure("Gateway", {"url": app.url})
    assert failure.no_retry


@pytest.mark.parametrize("mode", ["silent", "slow_answer", "drip", "drips_headers", "endless_headers", "continues"])
async def test_nobody_keeps_it_longer_than_its_timeout(mode: Mode) -> None:
    async with hostile(mode) as app, Gate(timeout=50) as gate, asyncio.timeout(3):
        failure = await gate.failure("Gateway", {"url": app.url})
    assert not failure.no_retry


@pytest.mark.parametrize("mode", sorted(set(MODES) - {"silent", "slow_answer", "drip", "drips_headers", "continues"}))
async def test_whatever_the_other_side_does_there_is_a_result_or_a_failure(mode: Mode) -> None:
    async with hostile(mode) as app, Gate(timeout=500) as gate, asyncio.timeout(10):
        for kind in ("Gateway", "AIGateway"):
            try:
                data: Any = decode(await gate.perform(kind, {"url": app.url, "auth_key": KEY, "body": {}}))
            except GatewayFailure as failure:
                assert failure.info.name == f"{kind}Error"
                assert KEY not in str(failure)
            else:
                assert kind == "AIGateway" or set(data) == {"url", "headers", "body", "status_code"}


class Names:
    """Resolves names as a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **known: list[str]) -> None:
        self.asked: list[str] = []
        self._known = {name.replace("_", "."): addresses for name, addresses in known.items()}
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self._resolve)

    async def _resolve(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked.append(host)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
            for address in self._known[host]
        ]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]"])
async def test_what_is_private_is_refused_unless_allowed(host: str) -> None:
    async with hostile() as app, Gate(allow_private=False) as gate:
        for kind in ("Gateway", "AIGateway"):
            failure = await gate.failure(kind, {"url": f"http://{host}:{app.port}/", "body": {}})
            assert failure.no_retry
            assert "this server makes no requests to private addresses" in failure.info.message
    assert app.connections == 0


async def test_a_name_that_leads_to_a_private_address_is_refused_at_each_of_its_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with hostile() as app, Gate(allow_private=False) as gate:
        names = Names(monkeypatch, evil_test=["127.0.0.1", "10.0.0.1", "169.254.169.254"])
        failure = await gate.failure("Gateway", {"url": f"http://evil.test:{app.port}/"})
        assert failure.no_retry and "private addresses" in failure.info.message
        assert names.asked == ["evil.test"]
    assert app.connections == 0


async def test_a_redirect_does_not_lead_to_a_private_address(monkeypatch: pytest.MonkeyPatch) -> None:
    # The app stands for a public server: only the address that it redirects to is not allowed here.
    async with hostile() as app, Gate(allow_private=False) as gate:
        monkeypatch.setattr(gate._fetcher, "_allows", lambda address: address == "127.0.0.1")
        app.status, app.headers = 302, {"location": f"http://127.0.0.2:{app.port}/"}
        failure = await gate.failure("Gateway", {"url": app.url})
    assert failure.no_retry and "private addresses" in failure.info.message
    assert app.connections == 1


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("2606:4700::1111", True),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("::127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::10.0.0.1", False),
        ("64:ff9b::8.8.8.8", True),
        ("2002:a00:1::", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) == public


def test_what_is_recorded_shows_no_secret() -> None:
    opts: dict[str, Json] = {
        "type": "step.ai.infer",
        "url": f"https://u:{KEY}@x.test/v1?alt=json&key={KEY}",
        "auth_key": KEY,
        "headers": {"Authorization": f"Bearer {KEY}", "X-Api-Key": KEY, "anthropic-version": "1"},
        "body": {"model": "m"},
    }
    shown = redacted(opts)
    assert KEY not in repr(shown) and KEY in repr(opts)
    assert shown["url"] == "https://[redacted]@x.test/v1?alt=json&key=[redacted]"
    assert shown["headers"]["anthropic-version"] == "1" and shown["body"] == {"model": "m"}
    assert redacted({"url": "http://[", "headers": None}) == {"url": "[redacted]", "headers": None}
    assert redacted({}) == {}


async def test_what_is_recorded_cannot_be_performed() -> None:
    async with hostile() as app, Gate() as gate:
        for opts in ({"auth_key": KEY}, {"headers": {"authorization": "Bearer x"}}):
            failure = await gate.failure("AIGateway", redacted({"url": app.url, "body": {}, **opts}))
            assert not failure.no_retry and "has to report it again" in failure.info.message
    assert app.connections == 0

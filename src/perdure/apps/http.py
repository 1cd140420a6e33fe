"""Calls over HTTP: one pooled client a node, imported and opened on first use.

Whatever an app does (never answers, answers garbage, cuts off, sends without end) becomes a `Reply` or a `CallError`
that says what to do; it never takes more memory than the protocol allows for an answer, and only its own runs wait.
Redirects are followed here: one that names no query gets the call's, which says what shall run (part C.3).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin, urlsplit, urlunsplit

from perdure.apps.transport import Call, CallError, Reply
from perdure.model.jcs import CanonicalJsonError, canonical
from perdure.model.json import InvalidJsonError, decode
from perdure.model.keys import Keys
from perdure.model.limits import MAX_CALL, MAX_REPLY_BYTES, SECOND
from perdure.wire import headers as names

if TYPE_CHECKING:
    import aiohttp

_CONNECT_WITHIN: Final = 10.0
_IDLE: Final = 3.0
"""How long a connection is kept for the next call (s): less than the 5 s after which the servers of apps close one."""
_STALE_WITHIN: Final = 0.1
"""A kept connection that the app had closed shows it at once (s). Later, the app may have begun with the call."""
_MAX_REDIRECTS: Final = 20
_WITH_BODY: Final = frozenset({307, 308})
_AS_GET: Final = frozenset({301, 302, 303})
_FOR_ONE_HOST: Final = frozenset({"authorization", "cookie"})
"""What a caller showed to one host is not for another one to see."""
_SHOWN: Final = 200
"""How much of what HTTP libraries say of a broken answer is shown (characters): they quote it."""


class HttpTransport:
    """Calls apps by their URLs, signed when there are keys. `now` gives the time in ms; `timeout` (seconds) is for a
    call with its answer."""

    def __init__(self, now: Callable[[], int], keys: Keys | None = None, *, timeout: float = MAX_CALL / SECOND) -> None:
        self._now = now
        self._keys = keys
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def call(self, call: Call) -> Reply:
        """See `Transport.call`."""
        headers = call.headers
        if self._keys is not None:
            signed = call.body if call.signed is None else call.signed
            headers = {**headers, names.SIGNATURE: self._keys.sign(signed, self._now())}
        try:
            async with asyncio.timeout(self._timeout):
                reply = await self._follow(call.method, call.url, headers, call.body)
        except _failures() as error:
            raise self._failed(call.url, error) from error
        if call.proven and self._keys is not None and reply.status // 100 == 2:
            await asyncio.to_thread(self._prove, call.url, self._keys, reply)
        return reply

    def _prove(self, url: str, keys: Keys, reply: Reply) -> None:
        """Raises `CallError` for an answer that nobody signed who has a key."""
        signature, now = reply.headers.get(names.SIGNATURE, ""), self._now()
        # SDKs sign a body as it is sent, or in its canonical form.
        if keys.verify(reply.body, signature, now) or keys.verify(_canonical(reply.body), signature, now):
            return
        raise CallError(
            "unsigned_answer",
            f"The answer from {url} does not carry a signature of this server's signing key. Is it the app that "
            "answers there, and does it have the same key? (The host is the one that the first request named; "
            "serve_origin of the app fixes it.)",
        )

    async def _follow(self, method: str, url: str, headers: dict[str, str], payload: bytes) -> Reply:
        """Calls where redirects lead."""
        at = url
        for _ in range(_MAX_REDIRECTS + 1):
            reply = await self._send(method, at, headers, payload)
            location = reply.headers.get("location")
            if location is None or reply.status not in _WITH_BODY | _AS_GET:
                return reply
            before, at = at, _target(url, at, location)
            if _is_another_host(before, at):
                headers = {name: value for name, value in headers.items() if name not in _FOR_ONE_HOST}
            if reply.status in _AS_GET:
                method, payload = "GET", b""
        raise CallError(
            "too_many_redirects",
            f"The app at {url} redirects calls again and again, at last to {at}. Sync it with the URL that answers.",
        )

    async def _send(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Reply:
        loop = asyncio.get_running_loop()
        while True:
            began, reused = loop.time(), [False]
            try:
                return await self._exchange(method, url, headers, body, reused)
            except _stale_errors():
                if not (reused[0] and loop.time() - began < _STALE_WITHIN):
                    raise

    async def _exchange(self, method: str, url: str, headers: dict[str, str], body: bytes, reused: list[bool]) -> Reply:
        request = self._open().request(
            method, url, data=body or None, headers=headers, trace_request_ctx=reused, allow_redirects=False
        )
        async with request as response:
            found = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, found, await _read(response))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            from perdure.apps.connector import Connector

            self._session = aiohttp.ClientSession(
                connector=Connector(_IDLE),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_WITHIN),
                headers={"accept-encoding": "gzip"},
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[_reuse_tracing()],
            )
        return self._session

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    def _failed(self, url: str, error: Exception) -> CallError:
        import aiohttp

        if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ServerTimeoutError):
            return CallError("http_timeout", f"The app at {url} did not answer within {_span(self._timeout)}.")
        return _unreachable(url, error)


def _canonical(body: bytes) -> bytes:
    try:
        return canonical(decode(body))
    except (CanonicalJsonError, InvalidJsonError):
        return body


def _target(url: str, at: str, location: str) -> str:
    """Where a redirect leads. Raises `CallError`."""
    try:
        found = urlsplit(urljoin(at, location))
    except ValueError:
        found = urlsplit("")
    if found.scheme not in ("http", "https") or not found.netloc:
        shown = location[:_SHOWN]
        raise CallError("invalid_url", f"The app at {url} redirects to {shown!r}, which is no URL that can be called.")
    return urlunsplit(found if found.query else found._replace(query=urlsplit(at).query))


def _is_another_host(before: str, at: str) -> bool:
    """Whether a redirect leads elsewhere, or to where everybody can read along."""
    old, new = urlsplit(before), urlsplit(at)
    return old.hostname != new.hostname or (old.scheme == "https" and new.scheme != "https")


def _span(seconds: float) -> str:
    return f"{seconds / 3600:g} hours" if seconds >= 3600 else f"{seconds:g} s"


def _reuse_tracing() -> aiohttp.TraceConfig:
    import aiohttp

    async def on_reuse(session: object, context: object, params: object) -> None:
        told = getattr(context, "trace_request_ctx", None)
        if isinstance(told, list):
            told[0] = True

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_reuseconn.append(on_reuse)
    return tracing


def _stale_errors() -> tuple[type[Exception], ...]:
    import aiohttp

    return (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


def _failures() -> tuple[type[Exception], ...]:
    import aiohttp

    # ValueError: what yarl says of a URL, and zlib of a body.
    return (aiohttp.ClientError, TimeoutError, OSError, ValueError)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    length = response.content_length
    if length is not None and length > MAX_REPLY_BYTES:
        raise _too_large(response)
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_REPLY_BYTES:
            raise _too_large(response)
    return bytes(body)


def _too_large(response: aiohttp.ClientResponse) -> CallError:
    # The rest of it must not come, nor the connection be used again.
    with contextlib.suppress(RuntimeError):
        response.close()
    return CallError(
        "output_too_large",
        f"The app's answer is larger than {MAX_REPLY_BYTES} bytes. Store large results elsewhere, and return a "
        "reference.",
    )


def _unreachable(url: str, error: Exception) -> CallError:
    import aiohttp

    if isinstance(error, aiohttp.InvalidURL):
        return CallError("invalid_url", f"{url} is no URL that can be called: sync the app again with the right one.")
    reason = _reason(error)
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ServerTimeoutError):
        message = (
            f"Unable to reach SDK URL {url}: {reason}. Is the app running, and can this machine reach it at that "
            "address? (In a container, localhost is the container itself.)"
        )
        return CallError("http_unreachable", message)
    return CallError(
        "http_broken_response",
        f"Unable to reach SDK URL {url}: the connection gave no usable answer ({reason}). The app may have crashed or "
        "been restarted while it ran, or something between closed the connection.",
    )


def _reason(error: Exception) -> str:
    import aiohttp

    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it was closed before the answer was complete"
    text = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    shown = " ".join(text.split())[:_SHOWN]
    return shown or type(error).__name__

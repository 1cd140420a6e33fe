"""The app side of the protocol: what a served app answers to GET, PUT and POST, whatever carries them.

Invariant: in production nothing of a function runs, and nothing is told, without a signature of one of the keys
over the body; and nothing is signed for a caller that did not sign, who could send it back as a request of its own.
A PUT may come from anyone, as it may with other SDKs: all that it does is to have the app register with
its own server. Under which address, the caller's Host header says, unless `serve_origin` does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from perdure.model.hosts import is_local_host
from perdure.model.jcs import CanonicalJsonError, canonical
from perdure.model.json import InvalidJsonError, Json, decode
from perdure.model.keys import SigningKey
from perdure.sdk.app import App
from perdure.sdk.function import Function
from perdure.serving import introspection
from perdure.serving.exchange import HANDLED, REQUEST_VERSION, Answer, Request, answer, problem, sdk_name, unauthorized
from perdure.serving.host import CallHost
from perdure.serving.incoming import CallError, IncomingCall, parse_call, parse_events, parse_steps
from perdure.serving.outbound import Outbound, ServerError
from perdure.serving.sending import ServerSender
from perdure.serving.settings import Settings
from perdure.serving.streaming import ServerChannel
from perdure.wire import headers as names

_log = logging.getLogger("perdure.serving")
_METHODS: Final = "GET, PUT, POST"
_MAX_REWRITTEN: Final = 1024 * 1024
"""Bodies (bytes) that are written anew to find their signature: that is slow, and anybody can ask for it."""
_ALL: Final = "step"
"""The step id of a call for whatever comes next."""


class Endpoint:
    """A served app."""

    def __init__(self, app: App, settings: Settings, now: Callable[[], int]) -> None:
        self._app = app
        self._settings = settings
        self._now = now
        self._outbound = Outbound(settings)
        app.send_to(ServerSender(self._outbound, now))

    async def answer(self, request: Request) -> Answer:
        """Answers a request. Raises nothing but `CancelledError`."""
        key = self._proven_by(request)
        try:
            found = await self._route(request, key)
        except ServerError as error:
            found = problem(500, "server_unreachable", "ServerError", str(error), retry=True)
        except Exception as error:
            _log.exception("a request to app %s failed", self._app.id)
            found = problem(500, "internal", type(error).__name__, str(error), retry=True)
        self._add_headers(request, found, key)
        return found

    async def _route(self, request: Request, key: SigningKey | None) -> Answer:
        open_to_all = self._settings.is_dev
        if request.method in ("GET", "HEAD"):
            return answer(200, self._told(request, key)) if key or open_to_all else unauthorized()
        if request.method == "PUT":
            return await self._sync(request, key)
        if request.method != "POST":
            return answer(405, {"message": f"use one of {_METHODS}"}, allow=_METHODS)
        if not key and not open_to_all:
            self._explain(request)
            return unauthorized()
        if request.query.get("probe") == "trust":
            return answer(200, {})
        return await self._call(request)

    # Who asks.

    def _proven_by(self, request: Request) -> SigningKey | None:
        """The key that signed the request, None where none of ours did."""
        signature = request.headers.get(names.SIGNATURE)
        if not signature:
            return None
        found = self._signer(request.body, signature)
        if found is None and self._settings.keys and len(request.body) <= _MAX_REWRITTEN:
            # Servers sign canonical JSON, and something on the way may have written the same JSON anew.
            canonical_body = _canonical(request.body)
            found = None if canonical_body is None else self._signer(canonical_body, signature)
        return found

    def _signer(self, body: bytes, signature: str) -> SigningKey | None:
        now = self._now()
        # A list: every key is tried, so that the time tells nothing.
        found = [key for key in self._settings.keys if key.verify(body, signature, now)]
        return found[0] if found else None

    def _explain(self, request: Request) -> None:
        signed = names.SIGNATURE in request.headers
        _log.warning(
            "a call of app %s was refused: %s",
            self._app.id,
            "its signature is not that of our signing key, or older than five minutes"
            if signed
            else "it is not signed; is its server one for development? Then set INNGEST_DEV=1 here",
        )

    def _add_headers(self, request: Request, found: Answer, key: SigningKey | None) -> None:
        headers = {"content-type": "application/json", **found.headers, HANDLED: "true"}
        if not found.turned_away:
            version = request.headers.get(names.REQ_VERSION)
            headers |= {
                names.SDK: sdk_name(),
                names.FRAMEWORK: request.framework,
                # A run that began with another version of the protocol keeps it.
                names.REQ_VERSION: version if version == "1" else str(REQUEST_VERSION),
                names.EXPECTED_SERVER_KIND: self._settings.mode,
            }
            if self._settings.env:
                headers[names.ENV] = self._settings.env
            if key is not None:
                headers[names.SIGNATURE] = key.sign(found.body, self._now())
        found.headers = headers

    # Introspection and sync.

    def _told(self, request: Request, key: SigningKey | None) -> dict[str, Json]:
        """What may be told about the app to whoever signed with `key`, or with none."""
        count = len(self._app.functions)
        if key is None:
            return introspection.overview(self._settings, count)
        return introspection.inspection(self._settings, self._app.id, count, request.framework)

    async def _sync(self, request: Request, key: SigningKey | None) -> Answer:
        configs = [function.config for function in self._app.functions.values()]
        try:
            url = self._url(request)
        except ValueError as error:
            return answer(400, {"message": f"the Host header is no name of a host: {error}"})
        document = introspection.registration(self._settings, self._app.id, url, configs, request.framework)
        if request.headers.get(names.SYNC_KIND) == "in_band" and (key or self._settings.is_dev):
            told = self._told(request, key)
            found = answer(200, introspection.synced_in_band(self._settings, document, told, request.framework))
            found.headers[names.SYNC_KIND] = "in_band"
            return found
        if key is None and not self._settings.is_dev and self._settings.serve_origin is None:
            host = urlsplit(url).netloc.rpartition("@")[2]
            if not is_local_host(host):
                # The server would send whatever it calls the app with to whomever this request has named.
                return self._astray(host)
        query = {name: request.query[name] for name in ("deployId",) if name in request.query}
        received = await self._outbound.register(document, query, request.framework)
        _log.info("app %s registered as %s: %d", self._app.id, url, received.status)
        if isinstance(received.json(), dict):
            found = Answer(received.status, received.body)
        else:
            text = received.body[:300].decode("utf-8", "replace")
            message = f"the server at {self._settings.api_url} answered {received.status}: {text}"
            found = answer(502 if received.status < 400 else received.status, {"message": message})
        found.headers[names.SYNC_KIND] = "out_of_band"
        return found

    def _astray(self, host: str) -> Answer:
        text = (
            f"the app does not register as {host[:80]} because a request that is not signed says so: set serve_origin "
            "(PERDURE_SERVE_ORIGIN) to where the server reaches it, or let the server ask (`perdure start -u URL`)"
        )
        _log.warning("app %s: %s", self._app.id, text)
        return answer(401, {"message": text})

    def _url(self, request: Request) -> str:
        """Where the server reaches the app: as this request came, but for what the settings say."""
        parts = urlsplit(request.url)
        origin = urlsplit(self._settings.serve_origin or request.url)
        path = self._settings.serve_path or parts.path
        return urlunsplit((origin.scheme, origin.netloc, path, "", ""))

    # Calls.

    async def _call(self, request: Request) -> Answer:
        function_id = request.query.get("fnId")
        if not function_id:
            return problem(400, "query_param_missing", "QueryParamMissingError", "fnId: is required", retry=False)
        function = self._app.functions.get(function_id)
        if function is None:
            message = (
                f"function {function_id} not found: app {self._app.id} has {', '.join(self._app.functions) or 'none'}"
            )
            # Another instance of the app may have it, while a new version is rolled out.
            return problem(500, "function_not_found", "FunctionNotFoundError", message, retry=True)
        try:
            call = await self._complete(parse_call(request.body))
        except CallError as error:
            return problem(400, "invalid_call", "InvalidCallError", str(error), retry=True)
        return await self._host(request, function, call)

    async def _host(self, request: Request, function: Function[Json], call: IncomingCall) -> Answer:
        step_id = request.query.get("stepId") or _ALL
        channel = ServerChannel(self._outbound, call.ctx.run_id, call.ctx.request_id)
        host = CallHost(
            function, call, None if step_id == _ALL else step_id, self._outbound, channel, self._now,
            checkpointing=self._settings.checkpointing,
        )  # fmt: skip
        watch = asyncio.create_task(_watch(request.gone, host)) if request.gone is not None else None
        try:
            return await host.run()
        finally:
            if watch is not None:
                watch.cancel()
            # The server has all of it before the answer, which may end the run.
            await channel.close()

    async def _complete(self, call: IncomingCall) -> IncomingCall:
        """Fetches what was too large to be sent along. Raises `CallError`, `ServerError`."""
        if call.use_api:
            run_id = call.ctx.run_id
            events, steps = await asyncio.gather(self._outbound.events_of(run_id), self._outbound.steps_of(run_id))
            call.events, call.steps = parse_events(events), parse_steps(steps)
        return call


async def _watch(gone: asyncio.Event, host: CallHost) -> None:
    await gone.wait()
    host.hang_up()


def _canonical(body: bytes) -> bytes | None:
    """The body as a server signs it, None where it is that already, or is no JSON."""
    try:
        found = canonical(decode(body))
    except (InvalidJsonError, CanonicalJsonError):
        return None
    return None if found == body else found

"""Where a caller is led whose run goes on without its request: the server, the app's proxy, or the endpoint itself."""

from __future__ import annotations

import logging
from inspect import isawaitable
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit, urlunsplit

from perdure.model.errors import PerdureError
from perdure.model.json import Json, encode
from perdure.sdk.endpoint import EndpointConfig, RedirectUrl
from perdure.serving.endpoints.checkpoints import Begun, output_path, stream_path
from perdure.serving.endpoints.links import Link
from perdure.serving.endpoints.outputs import own_query
from perdure.serving.endpoints.requests import EndpointRequest
from perdure.serving.endpoints.responses import Captured

_log = logging.getLogger("perdure.serving")
_KEPT: Final = "%:/?#[]@!$&'()*+,;=~-._"
_TEXT: Final = "text/plain;charset=UTF-8"


class RedirectError(PerdureError):
    """The app does not say where a caller is led. `option` is the one that should."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(f"{option}: {message}")
        self.option = option


class Redirects:
    """The addresses for one request."""

    def __init__(self, config: EndpointConfig, request: EndpointRequest, link: Link) -> None:
        self._config = config
        self._request = request
        self._link = link

    async def answer(self, begun: Begun) -> Captured:
        """The answer to a caller that takes no stream."""
        if self._config.async_response == "token":
            body = encode({"run_id": begun.run_id, "token": begun.token})
            return Captured(200, (("content-type", _TEXT),), body)
        location, is_default = await self._location(begun), self._config.async_redirect_url is None
        return Captured(self._status(is_default), (("location", location), ("content-type", _TEXT)), b"")

    async def _location(self, begun: Begun) -> str:
        given = self._config.async_redirect_url
        if given is not None:
            return await self._given("async_redirect_url", given, begun.run_id, begun.token)
        if self._link.public_url is not None:
            return self._link.public_url + output_path(begun.run_id, begun.token)
        return self._own(begun.run_id, begun.token, stream=False)

    async def output(self, begun: Begun) -> str | None:
        """Where the answer will be, for a caller that takes a stream and may lose it; None where that is not known."""
        try:
            return await self._location(begun)
        except RedirectError as error:
            _log.warning("run %s: %s", begun.run_id, error)
            return None

    def _status(self, is_default: bool) -> int:
        if self._request.method in ("GET", "HEAD"):
            return 302
        # Led back to itself, a caller must come with the method that is routed there.
        return 307 if is_default and self._link.public_url is None else 303

    async def stream(self, begun: Begun) -> str:
        """Where a stream goes on."""
        given = self._config.stream_url
        if given is not None:
            return await self._given("stream_url", given, begun.run_id, begun.realtime_token)
        if self._link.public_url is not None:
            return self._link.public_url + stream_path(begun.realtime_token)
        return self._own(begun.run_id, begun.realtime_token, stream=True)

    async def _given(self, option: str, given: RedirectUrl, run_id: str, token: str) -> str:
        if not isinstance(given, str):
            try:
                made: Json = given(run_id=run_id, token=token)
                found: object = await made if isawaitable(made) else made
            except Exception as error:
                raise RedirectError(option, f"raised {type(error).__name__}: {error}") from error
            if not isinstance(found, str) or not found:
                raise RedirectError(option, f"must give a URL, got {found!r}")
            # A header holds ASCII, and no end of a line.
            return quote(found, safe=_KEPT)
        parts = urlsplit(urljoin(self._request.url, given))
        query = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] not in ("runId", "token")]
        told = urlencode([*query, ("runId", run_id), ("token", token)])
        return urlunsplit((parts.scheme, parts.netloc, parts.path, told, ""))

    def _own(self, run_id: str, token: str, *, stream: bool) -> str:
        return f"{self._request.url}?{own_query(run_id, token, stream=stream)}"

"""Where a caller is led whose run goes on without its request: the server, the app's proxy, or the endpoint itself."""

from __future__ import annotations

from inspect import isawaitable
from typing import Final
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from perdure.model.json import Json, encode
from perdure.sdk.endpoint import EndpointConfig, RedirectUrl
from perdure.serving.endpoints.checkpoints import Begun, output_path, stream_path
from perdure.serving.endpoints.links import Link
from perdure.serving.endpoints.outputs import own_query
from perdure.serving.endpoints.requests import EndpointRequest
from perdure.serving.endpoints.responses import Captured

_TEXT: Final = "text/plain;charset=UTF-8"


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
        given = self._config.async_redirect_url
        if given is not None:
            location = await self._given(given, begun.run_id, begun.token)
        elif self._link.public_url is not None:
            location = self._link.public_url + output_path(begun.run_id, begun.token)
        else:
            location = self._own(begun.run_id, begun.token, stream=False)
        return Captured(self._status(given is None), (("location", location), ("content-type", _TEXT)), b"")

    def _status(self, is_default: bool) -> int:
        if self._request.method in ("GET", "HEAD"):
            return 302
        # Led back to itself, a caller must come with the method that is routed there.
        return 307 if is_default and self._link.public_url is None else 303

    async def stream(self, begun: Begun) -> str:
        """Where a stream goes on."""
        given = self._config.stream_url
        if given is not None:
            return await self._given(given, begun.run_id, begun.realtime_token)
        if self._link.public_url is not None:
            return self._link.public_url + stream_path(begun.realtime_token)
        return self._own(begun.run_id, begun.realtime_token, stream=True)

    async def _given(self, given: RedirectUrl, run_id: str, token: str) -> str:
        if not isinstance(given, str):
            made: Json = given(run_id=run_id, token=token)
            return str(await made if isawaitable(made) else made)
        parts = urlsplit(urljoin(self._request.url, given))
        query = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] not in ("runId", "token")]
        told = urlencode([*query, ("runId", run_id), ("token", token)])
        return urlunsplit((parts.scheme, parts.netloc, parts.path, told, ""))

    def _own(self, run_id: str, token: str, *, stream: bool) -> str:
        return f"{self._request.url}?{own_query(run_id, token, stream=stream)}"

"""Outbound HTTP for `step.fetch`: one pooled client a runner, imported and opened on first use.

The import alone takes a third of `import perdure`, which most programs and every command line call can do without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.model.limits import MAX_STEP_BYTES
from perdure.sdk.port import FetchRequest, FetchResponse

if TYPE_CHECKING:
    import aiohttp


class Fetcher:
    """Performs HTTP requests. Every status is an answer; no answer is an `OSError`."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(headers={"User-Agent": "perdure"})
        timeout = aiohttp.ClientTimeout(total=request.timeout)
        try:
            async with self._session.request(
                request.method, request.url, headers=request.headers, data=request.body, timeout=timeout
            ) as response:
                body = await _read(response)
                headers = {name: ", ".join(response.headers.getall(name)) for name in response.headers}
                return FetchResponse(str(response.url), response.status, headers, body)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OSError(f"no answer from {request.url}: {str(error) or type(error).__name__}") from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _read(response: aiohttp.ClientResponse) -> str:
    body = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        body += chunk
        if len(body) > MAX_STEP_BYTES:
            raise OSError(f"the answer of {response.url} is larger than {MAX_STEP_BYTES} bytes")
    return body.decode(response.get_encoding(), errors="replace")

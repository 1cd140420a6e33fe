"""The HTTP request of `step.fetch`, wherever the execution lives. The client is imported by whoever opens a session."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Final

from perdure.model.limits import MAX_STEP_BYTES
from perdure.sdk.port import FetchRequest, FetchResponse

if TYPE_CHECKING:
    import aiohttp

_LARGE: Final = 1024 * 1024
_CONNECT_WITHIN: Final = 30.0
_REFUSAL: Final = "this server makes no requests to private addresses"


class AddressRefusedError(OSError):
    """The request would go to an address to which none may go. A session that guards itself raises it."""

    def __init__(self) -> None:
        super().__init__(_REFUSAL)


class AnswerTooLargeError(OSError):
    """The answer is larger than a step may be."""


async def fetch(session: aiohttp.ClientSession, request: FetchRequest) -> FetchResponse:
    """Performs a request. Every status is an answer; no answer is an `OSError`."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=request.timeout, sock_connect=_CONNECT_WITHIN)
    try:
        async with session.request(
            request.method,
            request.url,
            headers=request.headers,
            data=payload(request.body),
            timeout=timeout,
            allow_redirects=request.redirects,
            skip_auto_headers=("Accept", "Content-Type"),
        ) as response:
            body = await _read(response)
            headers = {str(name): ", ".join(response.headers.getall(name)) for name in response.headers}
            return FetchResponse(str(response.url), response.status, headers, body)
    except (aiohttp.ClientError, TimeoutError) as error:
        # A name may have several addresses: the refusals are somewhere in what was said of all of them.
        if isinstance(error, aiohttp.ClientConnectorError) and _REFUSAL in str(error.os_error):
            raise AddressRefusedError() from error
        raise OSError(f"no answer from {request.url}: {_said(error, request)}") from error


def payload(body: bytes | None) -> bytes | BytesIO | None:
    """A body as the client sends it without holding up the event loop: a large one in pieces."""
    return BytesIO(body) if body is not None and len(body) > _LARGE else body


def _said(error: Exception, request: FetchRequest) -> str:
    said = str(error) or type(error).__name__
    return f"{said}; {request.timeout:g}s are allowed" if isinstance(error, TimeoutError) else said


async def _read(response: aiohttp.ClientResponse) -> str:
    body = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        body += chunk
        if len(body) > MAX_STEP_BYTES:
            raise AnswerTooLargeError(f"the answer of {response.url} is larger than {MAX_STEP_BYTES} bytes")
    try:
        return body.decode(response.charset or "utf-8", errors="replace")
    except LookupError:
        # A charset that nobody knows, or that is none: Python has a codec "hex".
        return body.decode(errors="replace")

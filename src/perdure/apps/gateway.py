"""The gateway: performs the requests that apps leave to the server, `step.fetch` and `step.ai.infer` (part E.4).

One attempt a call; retrying and recording are its caller's. Keys are needed for the request alone: record only
`redacted` options, and after a restart let the app report its operation again, which it does with every call of its
function until there is a memo. What goes out of here (results apart) shows no key.

Chunks of an answer are not published: `opts.publish` is passed by, and the answer comes whole, as the memo.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from perdure.apps.addresses import is_public
from perdure.model.errors import ErrorInfo, PerdureError, RetryAfterError
from perdure.model.json import InvalidJsonError, Json, decode, encode
from perdure.model.limits import MAX_STEP_BYTES, MINUTE, SECOND
from perdure.model.ops import AI_GATEWAY, GATEWAY
from perdure.runner.clock import SystemClock
from perdure.runner.fetch import Fetcher
from perdure.sdk.fetch import AddressRefusedError, AnswerTooLargeError
from perdure.sdk.inference import REDACTED, AIGatewayError, answer, conceal, inference_request, is_secret, secrets_of
from perdure.sdk.port import FetchRequest, FetchResponse

_DEFAULT_TIMEOUT: Final = 10 * MINUTE
_SHOWN: Final = 20_000
_OF_THE_CONNECTION: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_PREFIXES: Final = {
    GATEWAY: "Error making gateway request: Unable to reach SDK URL",
    AI_GATEWAY: "Error making AI request",
}
_NAMES: Final = {GATEWAY: "GatewayError", AI_GATEWAY: "AIGatewayError"}


class GatewayFailure(PerdureError):
    """An attempt gave no result. `retry_after`: ms to wait before the next, if the other side said so; `no_retry`:
    another attempt would end in the same way."""

    def __init__(self, info: ErrorInfo, retry_after: int | None = None, no_retry: bool = False) -> None:
        super().__init__(f"{info.name}: {info.message}")
        self.info = info
        self.retry_after = retry_after
        self.no_retry = no_retry


class Gateway:
    """Performs requests. Unless `allow_private`, none goes to an address that is not public: a loopback, private or
    link-local one, whatever name or redirect leads there. `timeout` (ms) is for a request with its answer; `now`
    gives the time (ms).
    """

    def __init__(
        self, *, allow_private: bool = True, timeout: int = _DEFAULT_TIMEOUT, now: Callable[[], int] | None = None
    ) -> None:
        self._fetcher = Fetcher(None if allow_private else is_public)
        self._timeout = timeout / SECOND
        self._now = now or SystemClock().now

    async def perform(self, op_kind: str, opts: Mapping[str, Json]) -> bytes:
        """Performs a "Gateway" or "AIGateway" operation; gives what stands under "data" in its memo, as JSON.

        Gateway: {"url", "headers", "body", "status_code"} of the answer, whatever its status. AIGateway: what the
        provider answered. Raises `GatewayFailure`.
        """
        opts = _readable(op_kind, opts)
        request = _fetch(opts, self._timeout) if op_kind == GATEWAY else _inference(opts, self._timeout)
        secrets = secrets_of(opts["url"], opts["auth_key"], opts["headers"])
        try:
            response = await self._fetcher.fetch(request)
            data = _response(response) if op_kind == GATEWAY else answer(response, self._now())
        except AIGatewayError as error:
            error.conceal(secrets)
            raise _refused(error, self._now()) from None
        except OSError as error:
            # A URL that cannot be called is an error of the client, and of a value.
            final = isinstance(error, AddressRefusedError | AnswerTooLargeError) or isinstance(
                error.__cause__, ValueError
            )
            raise _failure(op_kind, conceal(str(error), secrets), no_retry=final) from None
        except ValueError as error:
            # A method, URL or header that HTTP does not know.
            raise _failure(op_kind, conceal(str(error), secrets), no_retry=True) from None
        if len(data) > MAX_STEP_BYTES:
            raise _failure(op_kind, f"the answer is larger than {MAX_STEP_BYTES} bytes", no_retry=True)
        return data

    async def close(self) -> None:
        """Closes the connections."""
        await self._fetcher.close()


def redacted(opts: Mapping[str, Json]) -> dict[str, Json]:
    """The options of a Gateway or AIGateway operation without its secrets: what may be stored, traced and logged.

    >>> redacted({"url": "https://x.test/?key=k1&v=2", "auth_key": "k1", "headers": {"X-Api-Key": "k1"}})
    {'url': 'https://x.test/?key=[redacted]&v=2', 'auth_key': '[redacted]', 'headers': {'X-Api-Key': '[redacted]'}}
    """
    found = dict(opts)
    if found.get("auth_key"):
        found["auth_key"] = REDACTED
    if isinstance(found.get("headers"), dict):
        found["headers"] = {name: REDACTED if is_secret(name) else value for name, value in found["headers"].items()}
    if isinstance(found.get("url"), str):
        found["url"] = _shown_url(found["url"])
    return found


def _shown_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return REDACTED
    query = parts.query
    if any(is_secret(name) for name, _ in pairs):
        query = urlencode([(name, REDACTED if is_secret(name) else value) for name, value in pairs], safe="[]")
    host = f"{REDACTED}@{parts.netloc.rpartition('@')[2]}" if "@" in parts.netloc else parts.netloc
    return urlunsplit((parts.scheme, host, parts.path, query, parts.fragment))


def _readable(op_kind: str, opts: Mapping[str, Json]) -> dict[str, Json]:
    """The options with their defaults. Raises `GatewayFailure` for what no request can be made of."""
    found: dict[str, Json] = {**opts, "headers": opts.get("headers") or {}, "auth_key": opts.get("auth_key") or ""}
    problem = _problem(found)
    if problem is not None:
        raise GatewayFailure(ErrorInfo(_NAMES[op_kind], problem), no_retry=True)
    found["headers"] = {name: _header(value) for name, value in found["headers"].items()}
    if found["auth_key"] == REDACTED or REDACTED in found["headers"].values():
        message = "the keys of this operation are not kept: its app has to report it again"
        raise GatewayFailure(ErrorInfo(_NAMES[op_kind], message))
    return found


def _problem(opts: dict[str, Json]) -> str | None:
    url = opts.get("url")
    if not isinstance(url, str) or not url.lower().startswith(("http://", "https://")):
        return "url: must be a text that begins with http:// or https://"
    try:
        parts = urlsplit(url)
        if not parts.hostname or parts.port == 0:
            return "url: names no host and port to call"
    except ValueError as error:
        return f"url: {error}"
    if not isinstance(opts["auth_key"], str):
        return "auth_key: must be a text"
    if not isinstance(opts["headers"], dict):
        return "headers: must be an object"
    if not isinstance(opts.get("method") or "", str):
        return "method: must be a text such as POST"
    return None


def _header(value: Json) -> str:
    if isinstance(value, list):
        return ", ".join(map(_header, value))
    return value if isinstance(value, str) else encode(value).decode()


def _fetch(opts: dict[str, Json], timeout: float) -> FetchRequest:
    # The name that the servers of others know from the apps that come over to us, and may have let in by.
    headers = {"User-Agent": "Inngest", "Accept-Encoding": "gzip"}
    for name, value in opts["headers"].items():
        for same in [other for other in headers if other.lower() == name.lower()]:
            del headers[same]
        headers[name] = value
    body = opts.get("body")
    data = None if body in (None, "") else body.encode() if isinstance(body, str) else encode(body)
    return FetchRequest(opts["url"], (opts.get("method") or "GET").upper(), headers, data, timeout)


def _inference(opts: dict[str, Json], timeout: float) -> FetchRequest:
    given = {"User-Agent": "Inngest", "Accept-Encoding": "gzip", **opts["headers"]}
    format = opts.get("format")
    return inference_request(
        opts["url"], format if isinstance(format, str) else "", opts["auth_key"], given, opts.get("body"), timeout
    )


def _response(response: FetchResponse) -> bytes:
    dropped = set(_OF_THE_CONNECTION)
    if any(name.lower() == "content-encoding" for name in response.headers):
        # The body is unpacked: these two say how it was on its way.
        dropped |= {"content-encoding", "content-length"}
    headers = {_canonical(name): value for name, value in response.headers.items() if name.lower() not in dropped}
    return encode({"url": response.url, "headers": headers, "body": response.body, "status_code": response.status_code})


def _canonical(name: str) -> str:
    """A header's name in the one casing that SDKs look for.

    >>> _canonical("content-TYPE"), _canonical("ETag")
    ('Content-Type', 'Etag')
    """
    return "-".join(part.capitalize() for part in name.split("-"))


def _refused(error: AIGatewayError, now: int) -> GatewayFailure:
    body = error.body[:_SHOWN]
    try:
        data = decode(body)
    except InvalidJsonError:
        data = body
    info = ErrorInfo("AIGatewayError", str(error), stack=body, data=data)
    return GatewayFailure(info, error.millis(now) if isinstance(error, RetryAfterError) else None)


def _failure(op_kind: str, reason: str, *, no_retry: bool) -> GatewayFailure:
    return GatewayFailure(ErrorInfo(_NAMES[op_kind], f"{_PREFIXES[op_kind]}: {reason}"), no_retry=no_retry)

"""One call of a consumed operation: the request, its credentials, the answer, and what the document takes from it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import cached_property

from perdure.capability.authorizing import CredentialError, answer_challenge, authorize
from perdure.capability.binding import Variables
from perdure.capability.formats import FormatError, read
from perdure.capability.jsonpath import parse
from perdure.capability.model import ConsumedOperation, Consumer
from perdure.capability.requests import CallError, build
from perdure.capability.upstream import Reply, Request, Upstream, UpstreamError
from perdure.model.json import Json

_STATUS = {"unreachable": 502, "timeout": 504, "too_large": 502}
_SHOWN = 300


class Result:
    """An answer of an upstream, read when it is asked for."""

    def __init__(self, operation: ConsumedOperation, reply: Reply) -> None:
        self._operation = operation
        self.reply = reply

    @property
    def ok(self) -> bool:
        """Whether the upstream did what it was asked for. One that leads elsewhere did not: it is not followed."""
        return self.reply.status < 300

    @property
    def binary(self) -> bool:
        """Whether the answer is bytes, and nothing to read."""
        return self._operation.format == "binary"

    @property
    def media_type(self) -> str:
        """The media type to tell on: that of the document, or else that of the answer."""
        return self._operation.media_type or self.reply.headers.get("content-type", "application/octet-stream")

    @cached_property
    def value(self) -> Json:
        """The answer as JSON; raises `CallError`."""
        try:
            if self._operation.reader is not None:
                return self._operation.reader(self.reply.body) if self.reply.body else None
            return read(self.reply.body, self._operation.format, self._operation.selector)
        except FormatError as error:
            start = self.reply.body[:80].decode("utf-8", "replace")
            raise CallError(
                502,
                "unreadable_answer",
                f"{self._operation.name}: the upstream answered {self.reply.status} with "
                f"{self.reply.media_type or 'no content type'}, which is {error}: {start!r}",
            ) from error

    def all_named(self) -> dict[str, Json]:
        """The values that the consumed operation gives names to, besides the whole."""
        return {
            each.name: parse(each.mapping)(self.value)
            for each in self._operation.outputs
            if each.name and each.mapping not in ("", "$", "$.")
        }

    def told(self) -> str:
        """A failure in one line."""
        if self.reply.status < 400:
            place = self.reply.headers.get("location", "elsewhere")
            return f"HTTP {self.reply.status}: it leads to {place[:_SHOWN]}, and redirects are not followed"
        body = " ".join(self.reply.body.decode("utf-8", "replace").split())
        return f"HTTP {self.reply.status}: {body[:_SHOWN]}" if body else f"HTTP {self.reply.status}"


_TRACE = ("traceparent", "tracestate")


def passed_on(headers: Mapping[str, str], *, own: bool) -> dict[str, str]:
    """The headers of a caller that upstreams get: the context of a trace, and credentials for those that have none.

    What a caller showed to an adapter that asks for credentials of its `own` is for that alone.

    >>> passed_on({"authorization": "x", "traceparent": "y", "cookie": "z"}, own=True)
    {'traceparent': 'y'}
    """
    names = _TRACE if own else (*_TRACE, "authorization")
    return {name: headers[name] for name in names if name in headers}


class Caller:
    """Calls operations of upstreams. `passed` are headers of the caller: see `passed_on`."""

    def __init__(self, variables: Variables, upstream: Upstream, base_uris: Mapping[str, str] | None = None) -> None:
        self.variables = variables
        self._upstream = upstream
        self._base_uris = base_uris or {}

    def placed(self, consumer: Consumer) -> Consumer:
        """A consumer at the address that was chosen for it."""
        base = self._base_uris.get(consumer.namespace)
        if base is None:
            return consumer
        return Consumer(namespace=consumer.namespace, base_uri=base.rstrip("/"), authentication=consumer.authentication)

    async def call(
        self, consumer: Consumer, operation: ConsumedOperation, given: Mapping[str, Json], passed: Mapping[str, str]
    ) -> Result:
        """The answer to one operation; raises `CallError`."""
        request = build(self.placed(consumer), operation, given, self.variables)
        return Result(operation, await self.send(consumer, request, passed, operation.max_size))

    async def send(self, consumer: Consumer, request: Request, passed: Mapping[str, str], max_size: int) -> Reply:
        """The answer to a request that was built, with the credentials of its upstream; raises `CallError`."""
        for name in _TRACE:
            if name in passed:
                request.headers.setdefault(name, passed[name])
        try:
            if consumer.authentication is None:
                if "authorization" in passed:
                    request.headers.setdefault("authorization", passed["authorization"])
                return await self._upstream.send(request, max_size)
            request = authorize(request, consumer.authentication, self.variables)
            reply = await self._upstream.send(request, max_size)
            challenge = reply.headers.get("www-authenticate", "")
            if reply.status == 401 and consumer.authentication.kind == "digest" and challenge:
                again = answer_challenge(
                    request, challenge, consumer.authentication, self.variables, lambda: secrets.token_hex(8)
                )
                reply = reply if again is None else await self._upstream.send(again, max_size)
            return reply
        except CredentialError as error:
            raise CallError(500, "credentials_missing", f"{consumer.namespace}: {error}") from error
        except UpstreamError as error:
            code = f"upstream_{error.kind}"
            raise CallError(_STATUS[error.kind], code, f"{consumer.namespace}: {error}") from error

"""Requests that need input in between: the question goes out with a state, and both come back with the answer.

Nothing is kept meanwhile: the state is signed, for one request alone, so that a client can neither make one up nor use
that of another. Only what a client says that it can be asked is asked of it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import TypeAlias

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types.jsonrpc import MISSING_REQUIRED_CLIENT_CAPABILITY
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from perdure.model.json import InvalidJsonError, Json, decode, encode
from perdure.server.mcp.offering import Caller, InputNeeded, ToolError

Context: TypeAlias = ServerRequestContext[Json, Json]
_CAPABILITIES = {"elicitation/create": "elicitation", "sampling/createMessage": "sampling", "roots/list": "roots"}


class Rounds:
    """Makes the states of questions, and reads them."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def caller(self, ctx: Context, params: types.RequestParams) -> Caller:
        """Who makes a request, with the answers that it brings. Raises `MCPError` for a state that is not ours."""
        given = params.model_dump(by_alias=True, mode="json", exclude_none=True)
        headers = getattr(ctx.request, "headers", None)

        async def report(progress: float, total: float | None, message: str) -> None:
            await ctx.session.report_progress(progress, total, message or None)

        return Caller(
            headers={name.lower(): value for name, value in headers.items()} if headers else {},
            capabilities=_declared(ctx),
            responses=given.get("inputResponses") or {},
            state=self._unseal(_subject(given), given.get("requestState")),
            report=report,
        )

    def ask(self, ctx: Context, name: str, needed: InputNeeded) -> dict[str, Json]:
        """The result that asks. Raises `MCPError`, `ToolError` for a client that cannot be asked."""
        if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            raise ToolError(f"{name} needs input ({needed}), which this revision of the protocol cannot ask for")
        declared = _declared(ctx)
        for request in needed.inputs.values():
            capability = _CAPABILITIES.get(request["method"], request["method"])
            if capability not in declared:
                required: Json = {"requiredCapabilities": {capability: {}}}
                told = f"{name} needs a client that can be asked by {request['method']}"
                raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, told, required)
        asked: dict[str, Json] = {"resultType": "input_required", "inputRequests": dict(needed.inputs)}
        return asked if needed.state is None else asked | {"requestState": self._seal(name, needed.state)}

    def _seal(self, subject: str, state: Json) -> str:
        content = encode([subject, state])
        signature = hmac.digest(self._secret, content, "sha256")
        return f"{_text(content)}.{_text(signature)}"

    def _unseal(self, subject: str, sealed: Json) -> Json:
        if sealed is None:
            return None
        content, _, signature = str(sealed).partition(".")
        try:
            raw = _bytes(content)
            if hmac.compare_digest(hmac.digest(self._secret, raw, "sha256"), _bytes(signature)):
                made_for, state = decode(raw)
                if made_for == subject:
                    return state
        except (binascii.Error, InvalidJsonError, ValueError):
            pass
        raise MCPError(types.INVALID_PARAMS, "requestState is not one that this server gave for this request")


def _subject(given: dict[str, Json]) -> str:
    return str(given.get("name") or given.get("uri") or "")


def _declared(ctx: Context) -> dict[str, Json]:
    declared = ctx.session.client_capabilities
    return declared.model_dump(by_alias=True, mode="json", exclude_none=True) if declared is not None else {}


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

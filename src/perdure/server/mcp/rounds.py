"""Requests that need input in between: who is asked how, and what comes back.

In the newest revision the question goes out as the result, with a state, and both come back with the answer: nothing is
kept meanwhile, for the state is sealed, for one request alone. In the older ones the client is asked while it waits.
Only what a client says that it can be asked is asked of it.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import mcp_types as types
import msgspec
from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types.jsonrpc import MISSING_REQUIRED_CLIENT_CAPABILITY
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from perdure.model.json import Json
from perdure.server.mcp.offering import Caller, InputNeeded, ToolError
from perdure.server.mcp.seals import BrokenSealError, Seals
from perdure.server.mcp.sessions import KEY, Session

Context: TypeAlias = ServerRequestContext[Json, Json]
_CAPABILITIES = {"elicitation/create": "elicitation", "sampling/createMessage": "sampling", "roots/list": "roots"}
_QUESTIONS: dict[str, tuple[type[Json], type[types.Result]]] = {
    "elicitation/create": (types.ElicitRequest, types.ElicitResult),
    "sampling/createMessage": (types.CreateMessageRequest, types.CreateMessageResult),
    "roots/list": (types.ListRootsRequest, types.ListRootsResult),
}


class Rounds:
    """Carries out requests, asking in between. `pipe`: the one session where there is no HTTP."""

    def __init__(self, seals: Seals, pipe: Session) -> None:
        self._seals = seals
        self._pipe = pipe

    def session(self, ctx: Context) -> Session | None:
        """The session of a request; the newest revision has none, nor has an older client that does without."""
        if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            return None
        if ctx.request is None:
            return self._pipe
        found: Session | None = ctx.request.scope.get(KEY)
        return found

    async def carry(
        self,
        ctx: Context,
        params: types.RequestParams,
        name: str,
        act: Callable[[Caller], Awaitable[HandlerResult]],
    ) -> HandlerResult:
        """Does what a request asks for, with all input that it needs. Raises `MCPError`, and what `act` raises."""
        caller = self.caller(ctx, params)
        while True:
            try:
                return await act(caller)
            except InputNeeded as error:
                needed = error
            if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
                return self._ask(ctx, name, needed)
            answers = await _asked(ctx, name, needed)
            caller = msgspec.structs.replace(caller, responses=answers, state=needed.state)

    def caller(self, ctx: Context, params: types.RequestParams) -> Caller:
        """Who makes a request, with the answers that it brings. Raises `MCPError` for a state that is not ours."""
        extra = params.model_extra or {}
        responses = getattr(params, "input_responses", None) or extra.get("inputResponses")
        sealed = getattr(params, "request_state", None) or extra.get("requestState")
        headers = getattr(ctx.request, "headers", None)
        session = self.session(ctx)

        async def report(progress: float, total: float | None, message: str) -> None:
            await ctx.session.report_progress(progress, total, message or None)

        async def log(level: Json, data: Json) -> None:
            # The newest revision says in each request what is wanted, the older ones once for all.
            if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS or (session is not None and session.wants(level)):
                await _log(ctx, level, data)

        return Caller(
            headers={name.lower(): value for name, value in headers.items()} if headers else {},
            capabilities=_declared(ctx),
            responses=_plain(responses) or {},
            state=self._unseal(str(getattr(params, "name", "") or getattr(params, "uri", "")), sealed),
            report=report,
            log=log,
        )

    def _ask(self, ctx: Context, name: str, needed: InputNeeded) -> dict[str, Json]:
        """The result that asks. Raises `MCPError` for a client that cannot be asked."""
        declared = _declared(ctx)
        for request in needed.inputs.values():
            capability = _CAPABILITIES.get(request["method"], request["method"])
            if capability not in declared:
                required: Json = {"requiredCapabilities": {capability: {}}}
                told = f"{name} needs a client that can be asked by {request['method']}"
                raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, told, required)
        asked: dict[str, Json] = {"resultType": "input_required", "inputRequests": dict(needed.inputs)}
        return asked if needed.state is None else asked | {"requestState": self._seals.seal(name, needed.state)}

    def _unseal(self, subject: str, sealed: Json) -> Json:
        if sealed is None:
            return None
        try:
            return self._seals.open(subject, str(sealed))
        except BrokenSealError as error:
            told = "requestState is not one that this server gave for this request"
            raise MCPError(types.INVALID_PARAMS, told) from error


async def _asked(ctx: Context, name: str, needed: InputNeeded) -> dict[str, Json]:
    """What a client of an older revision answers. Raises `ToolError` where it cannot be asked, or gives none."""
    declared = _declared(ctx)
    for request in needed.inputs.values():
        if not ctx.session.can_send_request or _CAPABILITIES[request["method"]] not in declared:
            told = f"{name} needs a client that can be asked by {request['method']}, in a session"
            raise ToolError(f"{told}: {request['params'].get('message', '')}".rstrip(": "))
    answers = await asyncio.gather(*(_put(ctx, name, request) for request in needed.inputs.values()))
    return dict(zip(needed.inputs, answers, strict=True))


async def _put(ctx: Context, name: str, request: Json) -> Json:
    kind, expected = _QUESTIONS[request["method"]]
    related = ServerMessageMetadata(related_request_id=ctx.request_id)
    try:
        return _plain(await ctx.session.send_request(kind.model_validate(request), expected, metadata=related))
    except MCPError as error:
        raise ToolError(f"{name} asked by {request['method']}, and got no answer: {error}") from error
    except ValidationError as error:
        raise ToolError(f"{name} asked by {request['method']}, and what came back is no answer to it") from error


async def _log(ctx: Context, level: types.LoggingLevel, data: Json) -> None:
    with warnings.catch_warnings():
        # It is deprecated in the newest revision, and there for those who still ask for it.
        warnings.simplefilter("ignore", MCPDeprecationWarning)
        send = ctx.session.send_log_message  # pyright: ignore[reportDeprecated]
        await send(level, data, "perdure", ctx.request_id)


def _declared(ctx: Context) -> Mapping[str, Json]:
    declared: Mapping[str, Json] = _plain(ctx.session.client_capabilities) or {}
    return declared


def _plain(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return value.model_dump(by_alias=True, mode="json", exclude_none=True) if hasattr(value, "model_dump") else value

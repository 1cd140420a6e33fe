"""The REST adapters of capabilities as one ASGI application: routes, arguments in, results out.

Paths are matched as they were sent, segment by segment, so that an encoded slash stays inside of its value. The status
of an answer is that of the upstream; what cannot be asked of it is told as `{"error", "code", "status"}`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, parse_qsl, unquote

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from perdure.capability.admitting import Admission
from perdure.capability.arguments import Argument, ArgumentError, arguments, from_text
from perdure.capability.calling import passed_on
from perdure.capability.model import Action, Exposure, Forward
from perdure.capability.performing import Outcome, Performer
from perdure.capability.requests import CallError, RawBody, find
from perdure.capability.templates import path_names
from perdure.capability.upstream import Request
from perdure.model.json import InvalidJsonError, Json, decode, encode
from perdure.server.bodies import read_body
from perdure.server.envelope import ApiError

_log = logging.getLogger("perdure.capability")
MAX_BODY = 10 * 1024 * 1024
_JSON = "application/json"
_PASSED = ("retry-after", "link", "location", "etag", "last-modified", "x-next-cursor")


class Face(msgspec.Struct):
    """An adapter, whoever carries it out, and whom it lets in."""

    exposure: Exposure
    performer: Performer
    admission: Admission


class _Route(msgspec.Struct, kw_only=True):
    method: str
    segments: list[str]
    face: Face
    action: Action | None = None
    arguments: list[Argument] = []
    forward: Forward | None = None

    def match(self, given: list[str]) -> dict[str, str] | None:
        """The values in a path; None for another path."""
        if self.forward is None and len(given) != len(self.segments):
            return None
        if len(given) < len(self.segments):
            return None
        found: dict[str, str] = {}
        for wanted, segment in zip(self.segments, given, strict=False):
            names = list(path_names(wanted))
            if not names:
                if wanted != segment:
                    return None
                continue
            before, after = wanted[: wanted.index("{")], wanted[wanted.rindex("}") + 1 :]
            value = segment[len(before) : len(segment) - len(after)]
            if len(names) > 1 or not value or not segment.startswith(before) or not segment.endswith(after):
                return None
            found[names[0]] = unquote(value)
        return found

    @property
    def rank(self) -> tuple[bool, int]:
        """Routes with more literal segments come first, forwarding ones last."""
        return self.forward is not None, -sum("{" not in each for each in self.segments)


class RestDoor:
    """Serves the REST adapters of one port: all of them at their paths, and each below its namespace."""

    def __init__(self, faces: Iterable[Face]) -> None:
        routes: list[_Route] = []
        for face in faces:
            capability = face.performer.capability
            for each in face.exposure.operations:
                found = arguments(capability, face.exposure, each.action, each.path)
                segments = _segments(each.path)
                routes.append(
                    _Route(method=each.method, segments=segments, face=face, action=each.action, arguments=found)
                )
            for forward in face.exposure.forwards:
                segments = _literal(forward.path)
                routes.append(_Route(method="*", segments=segments, face=face, forward=forward))
        self._routes = sorted(routes, key=lambda route: route.rank)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            response = await self._answer(scope, receive)
        except CallError as error:
            response = _error(error)
        except ApiError as error:
            response = _error(CallError(error.status, error.code, error.message))
        except ClientDisconnect:
            return
        except Exception:
            _log.exception("%s %s failed unexpectedly", scope["method"], scope["path"])
            response = _error(CallError(500, "internal_error", "internal server error"))
        if scope["method"] == "HEAD":
            response.body = b""
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        path = raw.decode("latin-1").partition("?")[0]
        _check_text(path, scope["query_string"].decode("latin-1"))
        given = _segments(path)
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        matches = [(route, values) for route in self._routes if (values := route.match(given)) is not None]
        if not matches and len(given) > 1:
            own = [route for route in self._routes if route.face.exposure.namespace == given[0]]
            given = given[1:]
            matches = [(route, values) for route in own if (values := route.match(given)) is not None]
        if not matches:
            raise CallError(404, "not_found", f"nothing is exposed at {scope['path']}")
        allowed = sorted({route.method for route, _ in matches})
        if method == "OPTIONS" and "*" not in allowed:
            return Response(status_code=204, headers={"allow": ", ".join(allowed)})
        for route, values in matches:
            if route.method in (method, "*"):
                return await self._carry_out(route, values, given, scope, receive)
        told = CallError(405, "method_not_allowed", f"{scope['path']} takes {', '.join(allowed)}")
        response = _error(told)
        response.headers["allow"] = ", ".join(allowed)
        return response

    async def _carry_out(
        self, route: _Route, values: dict[str, str], given: list[str], scope: Scope, receive: Receive
    ) -> Response:
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        query: str = scope["query_string"].decode("latin-1")
        try:
            route.face.admission.check(headers, query)
        except CallError as error:
            response = _error(error)
            if error.status == 401 and route.face.admission.challenge:
                response.headers["www-authenticate"] = route.face.admission.challenge
            return response
        passed = passed_on(headers, own=route.face.exposure.authentication is not None)
        body = await read_body(scope, receive, MAX_BODY)
        if route.forward is not None or route.action is None:
            return await _forward(route, given[len(route.segments) :], scope["method"], query, headers, body)
        try:
            found = _values(route, values, query, headers, body)
        except ArgumentError as error:
            raise CallError(400, "invalid_parameter", str(error)) from error
        outcome = await route.face.performer.perform(route.face.exposure, route.action, route.arguments, found, passed)
        return _response(outcome)


def _check_text(path: str, query: str) -> None:
    """Refuses an address with bytes that are no text: what they stand for cannot be told on. Raises `CallError`."""
    try:
        for each in (path, query):
            unquote(each, errors="strict")
    except UnicodeDecodeError as error:
        raise CallError(400, "invalid_parameter", "the address is not UTF-8") from error


def _segments(path: str) -> list[str]:
    return path.strip("/").split("/")


def _literal(path: str) -> list[str]:
    """The segments before the first placeholder: what is behind them is forwarded."""
    segments = [each for each in _segments(path) if each]
    return segments[: next((place for place, each in enumerate(segments) if "{" in each), len(segments))]


def _values(
    route: _Route, in_path: dict[str, str], query: str, headers: dict[str, str], body: bytes
) -> dict[str, Json]:
    """The arguments of a request. Raises `ArgumentError`, `CallError`."""
    asked = parse_qs(query, keep_blank_values=True)
    cookies = _cookies(headers.get("cookie", ""))
    sent = _body(body, headers.get("content-type", "")) if body.strip() else None
    found: dict[str, Json] = {}
    for argument in route.arguments:
        if argument.place == "body":
            value = _from_body(argument, sent)
        elif argument.place == "query" and argument.schema.get("type") == "array":
            value = asked.get(argument.name)
        else:
            text = _text(argument, in_path, asked, headers, cookies)
            value = None if text is None else from_text(argument, text)
        if value is not None:
            found[argument.name] = value
    return found


def _text(
    argument: Argument,
    in_path: dict[str, str],
    asked: dict[str, list[str]],
    headers: dict[str, str],
    cookies: dict[str, str],
) -> str | None:
    """What a request says for an argument, as text."""
    if argument.place == "path":
        return next((value for name, value in in_path.items() if name.lower() == argument.name.lower()), None)
    if argument.place == "header":
        return headers.get(argument.name.lower())
    if argument.place == "cookie":
        return cookies.get(argument.name)
    return asked[argument.name][-1] if argument.name in asked else None


def _cookies(text: str) -> dict[str, str]:
    try:
        return {name: each.value for name, each in SimpleCookie(text).items()}
    except CookieError:
        return {}


def _body(body: bytes, content_type: str) -> Json:
    """A body as JSON, or as it is where it is something else. Raises `CallError`."""
    media = content_type.partition(";")[0].strip().lower()
    is_json = media in ("", _JSON) or media.endswith("+json")
    # curl says that all it sends is a form.
    guessed = media in ("application/x-www-form-urlencoded", "text/plain") and body.lstrip()[:1] in (b"{", b"[")
    if not is_json and not guessed:
        return RawBody(body, content_type)
    try:
        return decode(body)
    except InvalidJsonError as error:
        raise CallError(400, "invalid_body", f"the request body is not valid JSON: {error}") from error


def _from_body(argument: Argument, sent: Json) -> Json:
    if argument.name.lower() == "body" or not isinstance(sent, dict):
        return sent
    found = find(sent, argument.name)
    # One argument of another name may be the body itself.
    return sent if found is None and argument.schema.get("type") == "object" else found


def _response(outcome: Outcome) -> Response:
    result = outcome.result
    if result is None:
        return Response(encode(outcome.value), outcome.status, media_type=_JSON)
    headers = {name: result.reply.headers[name] for name in _PASSED if name in result.reply.headers}
    status = result.reply.status
    if status in (204, 304) or not result.reply.body:
        return Response(status_code=status, headers=headers)
    if not result.ok or result.binary:
        headers["content-type"] = result.media_type
        return Response(result.reply.body, status, headers)
    value = result.value
    if result.reply.media_type == _JSON or result.reply.media_type.endswith("+json"):
        # As the upstream wrote it, to the last digit.
        return Response(result.reply.body, status, headers, result.reply.headers["content-type"])
    return Response(encode(value), status, headers, _JSON)


def _error(error: CallError) -> Response:
    body = {"error": str(error), "code": error.code, "status": error.status}
    return Response(encode(body), error.status, media_type=_JSON)


async def _forward(
    route: _Route, rest: list[str], method: str, query: str, headers: dict[str, str], body: bytes
) -> Response:
    forward, performer = route.forward, route.face.performer
    consumers = [each for each in performer.capability.consumers if forward and each.namespace == forward.target]
    if forward is None or not consumers:
        raise CallError(500, "unknown_target", "there is nothing to forward to")
    if any(unquote(each) in (".", "..") for each in rest):
        raise CallError(400, "invalid_parameter", "the path must not lead upwards")
    consumer = performer.caller.placed(consumers[0])
    base = consumer.base_uri.partition("{")[0].rstrip("/")
    passed = {name.lower() for name in forward.trusted_headers} | {"content-type", "accept"}
    request = Request(
        method=method,
        url="/".join([base, *rest]),
        query=parse_qsl(query, keep_blank_values=True),
        headers={name: value for name, value in headers.items() if name in passed},
        body=body or None,
    )
    for parameter in consumer.inputs:
        if parameter.place == "header" and isinstance(parameter.value, str):
            request.headers[parameter.name.lower()] = str(performer.caller.variables.constant(parameter.value))
    reply = await performer.caller.send(consumer, request, {}, MAX_BODY)
    kept = {name: reply.headers[name] for name in ("content-type", *_PASSED) if name in reply.headers}
    return Response(reply.body, reply.status, kept)

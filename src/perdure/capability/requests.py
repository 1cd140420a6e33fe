"""From the arguments of a consumed operation to the request that is sent. Nothing is sent that is not complete.

Values in the path are percent-encoded, slashes too; names match whatever their case; what is missing and required, and
what a header or path cannot hold, is a `CallError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from urllib.parse import quote, urlencode

from perdure.capability.binding import Variables
from perdure.capability.model import Body, ConsumedOperation, Consumer, Parameter
from perdure.capability.templates import (
    TemplateError,
    as_text,
    path_names,
    render,
    render_deep,
    render_json,
    render_path,
)
from perdure.capability.upstream import Request
from perdure.model.json import Json, encode

WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_MEDIA = {
    "json": "application/json",
    "text": "text/plain; charset=utf-8",
    "xml": "application/xml",
    "sparql": "application/sparql-query",
    "formUrlEncoded": "application/x-www-form-urlencoded",
}


class CallError(Exception):
    """An exposed operation that fails: with the status that REST answers, a code, and one sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class RawBody:
    """A body that a caller sent, which is no JSON: it goes on as it is."""

    def __init__(self, content: bytes, media_type: str) -> None:
        self.content = content
        self.media_type = media_type


def find(given: Mapping[str, Json], name: str) -> Json:
    """A value by its name, whatever the case; None where there is none.

    >>> find({"runid": 1}, "runId")
    1
    """
    if name in given:
        return given[name]
    wanted = name.lower()
    return next((value for key, value in given.items() if key.lower() == wanted), None)


def build(consumer: Consumer, operation: ConsumedOperation, given: Mapping[str, Json], variables: Variables) -> Request:
    """The request of an operation with arguments; raises `CallError`."""
    return _Building(operation, given, variables).request(consumer)


class _Building:
    def __init__(self, operation: ConsumedOperation, given: Mapping[str, Json], variables: Variables) -> None:
        self._operation = operation
        self._given = given
        self._variables = variables
        self._values = {each.name: self._of(each) for each in operation.inputs}

    def request(self, consumer: Consumer) -> Request:
        request = Request(method=self._operation.method, url=self._url(consumer), headers={"accept": self._accept()})
        cookies: list[str] = []
        for parameter in self._operation.inputs:
            value = self._values[parameter.name]
            if value is None or parameter.place not in ("query", "header", "cookie"):
                continue
            if parameter.place == "query":
                items = value if isinstance(value, list) else [value]
                request.query += [(parameter.name, as_text(item)) for item in items]
            elif parameter.place == "header":
                request.headers[parameter.name.lower()] = self._header(parameter.name, as_text(value))
            else:
                cookies.append(f"{parameter.name}={quote(as_text(value), safe='')}")
        if cookies:
            request.headers["cookie"] = "; ".join(cookies)
        content, media_type = self._content()
        request.body = content
        if media_type:
            request.headers.setdefault("content-type", media_type)
        return request

    def _of(self, parameter: Parameter) -> Json:
        """The value of a parameter; None for one that is optional and not given."""
        value = find(self._given, parameter.name)
        if parameter.value is not None and value is None:
            value = self._rendered(self._variables.constant(parameter.value), f"value of {parameter.name}")
        if value is None and parameter.place == "environment":
            value = self._variables.constant(parameter.name)
        if value is None:
            value = self._variables.default_for(parameter.name)
        if value is None and (parameter.required or parameter.place == "path"):
            raise CallError(400, "missing_parameter", f"{parameter.name} is required by {self._operation.name}")
        return value

    def _lookup(self, name: str) -> Json:
        value = find(self._given, name)
        if value is None:
            value = next((each for key, each in self._values.items() if key.lower() == name.lower()), None)
        return self._variables(name) if value is None else value

    def _rendered(self, value: Json, what: str) -> Json:
        try:
            return render_deep(value, lambda name: _known(self._given, self._variables, name))
        except TemplateError as error:
            raise CallError(400, "unresolved_template", f"{what} of {self._operation.name}: {error}") from error

    def _url(self, consumer: Consumer) -> str:
        try:
            base = as_text(render(consumer.base_uri, self._variables)).rstrip("/")
        except TemplateError as error:
            raise CallError(500, "unresolved_template", f"baseUri of {consumer.namespace}: {error}") from error
        path = self._operation.path
        path = path if not path or path.startswith(("/", "?")) else f"/{path}"
        path_names(path)
        return base + render_path(path, self._segment)

    def _segment(self, name: str) -> str:
        try:
            value = self._lookup(name)
        except KeyError:
            value = self._variables.default_for(name)
        text = as_text(value)
        if not text:
            raise CallError(400, "missing_parameter", f"{name} is required by {self._operation.name}")
        if text in (".", ".."):
            raise CallError(400, "invalid_parameter", f"{name} must not be {text!r}: it would change the path")
        return quote(text, safe="")

    def _header(self, name: str, value: str) -> str:
        if not (value.isascii() and value.isprintable()):
            raise CallError(400, "invalid_parameter", f"{name} has characters that no header may have")
        return value

    def _accept(self) -> str:
        return "application/json" if self._operation.format == "json" else "*/*"

    def _content(self) -> tuple[bytes | None, str]:
        operation = self._operation
        if operation.body is not None:
            return self._templated(operation.body)
        declared = [each for each in operation.inputs if each.place == "body"]
        if len(declared) == 1:
            value = self._values[declared[0].name]
        elif declared:
            present = {each.name: self._values[each.name] for each in declared}
            value = {name: each for name, each in present.items() if each is not None}
        else:
            value = find(self._given, "body") if operation.method in WITH_BODY else None
        if value is None:
            return None, ""
        if isinstance(value, RawBody):
            return value.content, value.media_type
        return encode(value), "application/json"

    def _templated(self, body: Body) -> tuple[bytes, str]:
        try:
            if body.kind == "multipartForm":
                return self._multipart(body.data)
            if body.kind == "formUrlEncoded" and isinstance(body.data, dict):
                fields = {key: as_text(value) for key, value in render_deep(body.data, self._lookup).items()}
                return urlencode(fields).encode(), _MEDIA[body.kind]
            if body.kind in ("raw", "json") and isinstance(body.data, str):
                text = render_json(body.data, self._optional_lookup)
                return text.encode(), "application/json" if _looks_like_json(text) else _MEDIA["text"]
            if body.kind == "json":
                return encode(render_deep(body.data, self._optional_lookup)), _MEDIA["json"]
            return as_text(render(str(body.data), self._lookup)).encode(), _MEDIA[body.kind]
        except TemplateError as error:
            raise CallError(400, "unresolved_template", f"body of {self._operation.name}: {error}") from error

    def _optional_lookup(self, name: str) -> Json:
        """Arguments that may be left out, and were, are null in JSON."""
        try:
            return self._lookup(name)
        except KeyError:
            if any(each.lower() == name.lower() for each in self._given):
                return None
            raise

    def _multipart(self, parts: Json) -> tuple[bytes, str]:
        """The parts, between a boundary that cannot be in them, since it is made from them."""
        values = render_deep(parts or [], self._lookup)
        boundary = f"perdure-{sha256(encode(values)).hexdigest()[:32]}"
        lines: list[str] = []
        for rendered in values:
            disposition = f'form-data; name="{_quoted(rendered.get("name"))}"'
            if rendered.get("filename"):
                disposition += f'; filename="{_quoted(rendered["filename"])}"'
            lines += [f"--{boundary}", f"Content-Disposition: {disposition}"]
            if rendered.get("contentType"):
                lines.append(f"Content-Type: {_quoted(rendered['contentType'])}")
            lines += ["", as_text(rendered.get("value"))]
        content = "\r\n".join([*lines, f"--{boundary}--", ""]).encode()
        return content, f"multipart/form-data; boundary={boundary}"


def _known(given: Mapping[str, Json], variables: Variables, name: str) -> Json:
    value = find(given, name)
    return variables(name) if value is None else value


def _quoted(value: Json) -> str:
    """A value inside of the quotes of a part's header."""
    return as_text(value).replace("\\", "\\\\").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _looks_like_json(text: str) -> bool:
    return text.lstrip()[:1] in ("{", "[", '"') or text.strip() in ("null", "true", "false")

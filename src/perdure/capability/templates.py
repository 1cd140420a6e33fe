"""Text with placeholders: `{{name}}`, `{{space.NAME}}`; in paths `{name}`, too.

A placeholder that is the whole text stands for the value itself, with its type; inside of other text, lists and objects
are written as JSON. In a body that is JSON a placeholder is JSON, and its text is escaped between quotes.
A name that nothing gives a value to is an error, never an empty text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from perdure.model.json import Json, encode

_PLACEHOLDER = re.compile(r"\{(?P<triple>\{)?\{\s*(?P<name>[^{}]*?)\s*\}\}(?(triple)\})")
_IN_PATH = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}|\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_$][\w$-]*(\.[\w$-]+)*\Z")

Lookup = Callable[[str], Json]
"""The value of a name; raises `KeyError` for one that has none."""


class TemplateError(ValueError):
    """A template that cannot be read, or a name in it that has no value."""


@lru_cache(maxsize=4096)
def names(text: str) -> tuple[str, ...]:
    """The names in a template; raises `TemplateError`.

    >>> names("{{a}} and {{ env.TOKEN }}")
    ('a', 'env.TOKEN')
    """
    found = [match["name"] for match in _PLACEHOLDER.finditer(text)]
    for name in found:
        if not _NAME.match(name):
            raise TemplateError(f"{{{{{name}}}}} is no name; placeholders are {{{{name}}}} or {{{{space.NAME}}}}")
    rest = _PLACEHOLDER.sub("", text)
    if "{{" in rest or ("}}" in rest and "{" not in rest):
        raise TemplateError(f"a placeholder is not closed, or not opened, in {text[:80]!r}")
    return tuple(found)


@lru_cache(maxsize=4096)
def path_names(path: str) -> tuple[str, ...]:
    """The names in a path, with one brace or two; raises `TemplateError`.

    >>> path_names("/a/{x}/b/{{y}}")
    ('x', 'y')
    """
    found = [match[1] or match[2] or "" for match in _IN_PATH.finditer(path)]
    for name in found:
        if not _NAME.match(name):
            raise TemplateError(f"{{{name}}} in the path is no name")
    if "{" in _IN_PATH.sub("", path) or "}" in _IN_PATH.sub("", path):
        raise TemplateError(f"a brace is not closed, or not opened, in the path {path!r}")
    return tuple(found)


def render(text: str, lookup: Lookup) -> Json:
    """The value of a template: of one placeholder alone its value, else text. Raises `TemplateError`.

    >>> render("{{n}}", {"n": [1]}.__getitem__), render("n={{n}}", {"n": [1]}.__getitem__)
    ([1], 'n=[1]')
    """
    if not names(text):
        return text
    whole = _PLACEHOLDER.fullmatch(text.strip())
    if whole:
        return _value(whole["name"], lookup)
    return _PLACEHOLDER.sub(lambda match: as_text(_value(match["name"], lookup)), text)


def render_deep(value: Json, lookup: Lookup) -> Json:
    """A value with the templates of all its texts rendered."""
    if isinstance(value, str):
        return render(value, lookup)
    if isinstance(value, dict):
        return {key: render_deep(each, lookup) for key, each in value.items()}
    if isinstance(value, list):
        return [render_deep(each, lookup) for each in value]
    return value


def render_path(path: str, lookup: Callable[[str], str]) -> str:
    """A path with its placeholders replaced by what `lookup` gives, which must be encoded."""
    path_names(path)
    return _IN_PATH.sub(lambda match: lookup(match[1] or match[2]), path)


def render_json(text: str, lookup: Lookup) -> str:
    """A body that is JSON text, with placeholders replaced by JSON.

    >>> render_json('{"a": "{{a}}", "b": {{b}}}', {"a": 'say "x"', "b": [1]}.__getitem__)
    '{"a": "say \\\\"x\\\\"", "b": [1]}'
    """
    names(text)
    parts: list[str] = []
    end, quoted = 0, False
    for match in _PLACEHOLDER.finditer(text):
        literal = text[end : match.start()]
        quoted = _ends_quoted(literal, quoted)
        value = _value(match["name"], lookup)
        json = encode(value).decode()
        parts += [literal, encode(as_text(value)).decode()[1:-1] if quoted else json]
        end = match.end()
    return "".join([*parts, text[end:]])


def _ends_quoted(text: str, quoted: bool) -> bool:
    escaped = False
    for char in text:
        if escaped:
            escaped = False
        elif char == "\\" and quoted:
            escaped = True
        elif char == '"':
            quoted = not quoted
    return quoted


def as_text(value: Json) -> str:
    """A value as it is written inside of other text.

    >>> as_text(True), as_text(1.5), as_text("a"), as_text({"a": 1})
    ('true', '1.5', 'a', '{"a":1}')
    """
    if value is None:
        return ""
    return value if isinstance(value, str) else encode(value).decode()


def _value(name: str, lookup: Lookup) -> Json:
    try:
        return lookup(name)
    except KeyError as error:
        raise TemplateError(f"{{{{{name}}}}} has no value") from error

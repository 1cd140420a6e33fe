"""Answers of upstreams as JSON, from the formats in which they come.

XML becomes an object of what the root element holds, with attributes beside children and repeated children as lists.
Tables (CSV, TSV, PSV, and those of HTML and Markdown) become lists of objects by the names in their first row.
"""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

from perdure.capability.source import DocumentError, parse
from perdure.model.json import InvalidJsonError, Json, decode

_DELIMITERS = {"csv": ",", "tsv": "\t", "psv": "|"}
_SELECTOR = re.compile(r"(\w+)?(?:#([\w-]+))?(?:\.([\w-]+))?\Z")


class FormatError(ValueError):
    """An answer that is not in the format that the document says."""


def read(body: bytes, form: str, selector: str = "") -> Json:
    """The JSON of an answer; an empty one is None. Raises `FormatError`.

    >>> read(b"a,b\\n1,x\\n", "csv")
    [{'a': '1', 'b': 'x'}]
    >>> read(b"<fleet at='x'><ship>1</ship><ship>2</ship></fleet>", "xml")
    {'at': 'x', 'ship': ['1', '2']}
    """
    if not body.strip():
        return None
    if form == "json":
        try:
            return decode(body)
        except InvalidJsonError as error:
            raise FormatError(f"not JSON: {error}") from error
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError("not UTF-8") from error
    if form == "xml":
        return _xml(text)
    if form in _DELIMITERS:
        return _rows(list(csv.reader(io.StringIO(text), delimiter=_DELIMITERS[form])))
    if form == "yaml":
        try:
            return parse(text, "the answer").data
        except DocumentError as error:
            raise FormatError(str(error)) from error
    return _html(text, selector) if form == "html" else _markdown(text, selector)


def _xml(text: str) -> Json:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise FormatError("XML with a document type is not read")
    try:
        return _element(ElementTree.fromstring(text))
    except (ElementTree.ParseError, RecursionError) as error:
        raise FormatError(f"not XML: {error}") from error


def _element(element: ElementTree.Element) -> Json:
    found: dict[str, Json] = dict(element.attrib)
    for child in element:
        name, value = child.tag.rpartition("}")[2], _element(child)
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    text = (element.text or "").strip()
    if not found:
        return text
    return {**found, "": text} if text else found


def _rows(rows: list[list[str]]) -> list[dict[str, str]]:
    filled = [row for row in rows if row]
    if not filled:
        return []
    header, *others = filled
    return [dict(zip(header, row, strict=False)) for row in others]


class _Tables(HTMLParser):
    """Collects the rows of the first table that the selector means."""

    def __init__(self, selector: str) -> None:
        super().__init__()
        match = _SELECTOR.match(selector.strip() or "table")
        if match is None:
            raise FormatError(f"outputSchema {selector!r}: perdure reads selectors like table, #id and table.class")
        self._wanted = match.groups()
        self._depth = 0
        self._cell: list[str] | None = None
        self.rows: list[list[str]] = []
        self.done = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table" and not self.done and (self._depth or self._is_wanted(dict(attrs))):
            self._depth += 1
        elif self._depth == 1 and tag == "tr":
            self.rows.append([])
        elif self._depth == 1 and tag in ("td", "th") and self.rows:
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        if self._depth and tag == "table":
            self._depth -= 1
            self.done = self._depth == 0
        elif tag in ("td", "th") and self._cell is not None:
            self.rows[-1].append(" ".join("".join(self._cell).split()))
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)

    def _is_wanted(self, attributes: dict[str, str | None]) -> bool:
        tag, id_, class_ = self._wanted
        classes = (attributes.get("class") or "").split()
        return tag in (None, "table") and (not id_ or attributes.get("id") == id_) and (not class_ or class_ in classes)


def _html(text: str, selector: str) -> Json:
    tables = _Tables(selector)
    tables.feed(text)
    return _rows(tables.rows)


def _markdown(text: str, heading: str) -> Json:
    """The first table of the section under the heading, or else its text."""
    lines = text.splitlines()
    if heading:
        starts = [number for number, line in enumerate(lines) if line.startswith(heading)]
        if not starts:
            raise FormatError(f"there is no heading {heading!r}")
        level = len(heading) - len(heading.lstrip("#"))
        ends = [
            number
            for number, line in enumerate(lines)
            if number > starts[0] and re.match(rf"#{{1,{max(1, level)}}} ", line)
        ]
        lines = lines[starts[0] + 1 : ends[0] if ends else None]
    table = [line.strip() for line in lines if line.strip().startswith("|")]
    if len(table) < 2:
        return {"content": "\n".join(lines).strip()}
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return _rows([row for row in rows if not all(re.fullmatch(r":?-+:?", cell) for cell in row)])

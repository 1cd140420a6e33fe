"""Templates and JSONPaths, wherever they stand in a document: each must be readable. Prose is left alone."""

from __future__ import annotations

from collections.abc import Callable

from perdure.capability.findings import Findings
from perdure.capability.jsonpath import JsonPathError, parse
from perdure.capability.source import Path
from perdure.capability.templates import TemplateError, names, path_names
from perdure.model.json import Json

_PROSE = frozenset({"description", "info", "content", "template"})


def check_texts(value: Json, path: Path, findings: Findings) -> None:
    """Finds the texts below a value that cannot be read."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key in _PROSE:
                continue
            if isinstance(each, str) and (key in ("mapping", "lookupValue") or each.startswith(("$.", "$["))):
                _try(parse, each, (*path, key), "bad-path", findings)
            else:
                check_texts(each, (*path, key), findings)
    elif isinstance(value, list):
        for position, each in enumerate(value):
            check_texts(each, (*path, position), findings)
    elif isinstance(value, str):
        reader: Callable[[str], object] = path_names if path and path[-1] in ("path", "uri") else names
        _try(reader, value, path, "bad-template", findings)


def _try(read: Callable[[str], object], text: str, path: Path, code: str, findings: Findings) -> None:
    try:
        read(text)
    except (TemplateError, JsonPathError) as error:
        findings.error(path, code, str(error))

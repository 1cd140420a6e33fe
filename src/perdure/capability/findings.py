"""What was found in a capability document: where, how bad, and what it means.

An error keeps the document from running; a warning says how perdure takes what the published format does not allow, or
leaves open. Strict, warnings are errors.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from perdure.capability.source import Path, Source

Severity = Literal["error", "warning"]


class Finding(msgspec.Struct, frozen=True, order=True):
    """One finding; `code` names its kind, in kebab-case."""

    file: str
    line: int
    severity: Severity
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.severity}: {self.message} [{self.code}]"


class CapabilityError(ValueError):
    """A document that cannot be run; the text tells every error with its line."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = findings


class Findings:
    """Collects findings about one document; the same thing is told once."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._found: dict[Finding, None] = {}

    def error(self, path: Path, code: str, message: str) -> None:
        """Something that cannot work."""
        self._add("error", path, code, message)

    def warning(self, path: Path, code: str, message: str) -> None:
        """Something that was understood, though the format does not say so."""
        self._add("warning", path, code, message)

    def merge(self, other: Findings) -> None:
        """Takes over what was found in another document, which this one imports."""
        self._found.update(other._found)

    def _add(self, severity: Severity, path: Path, code: str, message: str) -> None:
        self._found.setdefault(Finding(self.source.name, self.source.line(path), severity, code, message))

    @property
    def all(self) -> list[Finding]:
        """All findings, by line."""
        return sorted(self._found, key=lambda each: (each.file, each.line, each.severity, each.code))

    def raise_errors(self, *, strict: bool = False) -> None:
        """Raises `CapabilityError` if there are errors, or, strict, anything at all."""
        bad = [each for each in self.all if strict or each.severity == "error"]
        if bad:
            raise CapabilityError(bad)

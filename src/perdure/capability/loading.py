"""Opens capability files: read, checked, linked, and with their variables, ready to be run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path as FilePath

import msgspec

from perdure.capability import guesses, references, schema_files, script_steps, unfilled
from perdure.capability.binding import Variables, resolve
from perdure.capability.checks import check
from perdure.capability.findings import Finding, Findings
from perdure.capability.model import Capability
from perdure.capability.reader import Load, read
from perdure.capability.source import MAX_BYTES, DocumentError, Source, parse


class Opened(msgspec.Struct):
    """A document with everything that was found in it."""

    source: Source
    capability: Capability
    findings: Findings
    load: Load

    def bind(self, environment: Mapping[str, str], given: Mapping[str, str], *, needed: bool = True) -> Variables:
        """Its variables; if they are `needed`, missing ones are added to the findings."""
        return resolve(
            self.capability, self.findings, environment=environment, given=given, load=self.load, needed=needed
        )


def open_text(text: str, name: str, load: Load) -> Opened:
    """Reads a document from its text. Raises `DocumentError` for one that is no YAML."""
    source = parse(text, name)
    capability, findings = read(source, load)
    check(capability, findings)
    schema_files.attach(capability, findings, load)
    references.link(capability)
    script_steps.check(capability, findings)
    guesses.check(capability, findings)
    unfilled.check(capability, findings)
    return Opened(source, capability, findings, load)


def open_file(path: FilePath) -> Opened:
    """Reads a document from a file. Raises `OSError`, and `DocumentError` for one that is no YAML."""
    folder = path.resolve().parent

    def load(location: str) -> str:
        return _text(folder / location)

    opened = open_text(_text(path), str(path), load)
    opened.capability.folder = str(folder)
    return opened


def _text(path: FilePath) -> str:
    if path.stat().st_size > MAX_BYTES:
        raise DocumentError(str(path), 1, f"the file is larger than {MAX_BYTES} bytes")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(str(path), 1, "the file is not UTF-8") from error


def findings_of(path: FilePath) -> list[Finding]:
    """Everything that is found in a file, by line; its variables need not be there. Raises `OSError`."""
    try:
        opened = open_file(path)
        opened.bind({}, {}, needed=False)
        return opened.findings.all
    except DocumentError as error:
        return [Finding(str(path), error.line, "error", "not-yaml", error.reason)]

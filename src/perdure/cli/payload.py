"""JSON that is given to a command: as an argument, or on standard input."""

from __future__ import annotations

import sys

import click

from perdure.model.json import InvalidJsonError, Json, decode


def json_argument(text: str) -> Json:
    """The value of the argument DATA; `-` stands for standard input. Raises `UsageError`."""
    source = "DATA"
    if text == "-":
        text, source = sys.stdin.read(), "standard input"
    try:
        return decode(text)
    except InvalidJsonError as error:
        raise click.UsageError(f"{source} is not valid JSON: {error}") from error


def json_object(text: str) -> dict[str, Json]:
    """The same, where it must be an object."""
    value = json_argument(text)
    if not isinstance(value, dict):
        source = "standard input" if text == "-" else "DATA"
        raise click.UsageError(f"{source} must be a JSON object, such as '{{\"order\": 7}}'")
    return value

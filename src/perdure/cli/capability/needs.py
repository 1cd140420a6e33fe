"""What reading capabilities needs, told in one line where it is not installed."""

from __future__ import annotations

from importlib.util import find_spec

import click


def need(*modules: str) -> None:
    """Raises `ClickException` if a module is missing."""
    extras = {"yaml": "capability", "mcp": "mcp"}
    for module in modules:
        if find_spec(module) is None:
            raise click.ClickException(f"{module} is not installed: pip install 'perdure[{extras[module]}]'")

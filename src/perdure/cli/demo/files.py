"""Where the demo's apps and orders are: in a wheel inside of the package, in a checkout in examples/."""

from __future__ import annotations

from pathlib import Path

import click

import perdure

APP = "orders_app:app"
ORDERS = "orders.jsonl"
LETTERS = "letters:web"
HELPDESK = "helpdesk:web"
HELPDESK_MODEL = "helpdesk_model.py"
CALLER = "letters_caller.mjs"


def examples() -> Path:
    """The folder of the examples. Raises `ClickException` when there is none."""
    package = Path(perdure.__file__).parent
    for folder in (package / "_examples", package.parents[1] / "examples"):
        if (folder / ORDERS).is_file():
            return folder
    raise click.ClickException(f"the demo's files are missing: there is no {package / '_examples' / ORDERS}")

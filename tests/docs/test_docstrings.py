"""Every example in a docstring runs and gives what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import perdure


def _modules() -> list[str]:
    found = pkgutil.walk_packages(perdure.__path__, prefix="perdure.")
    # Importing __main__ would run the command line.
    return ["perdure", *sorted(module.name for module in found if not module.name.endswith(".__main__"))]


@pytest.mark.parametrize("name", _modules())
def test_examples_in_docstrings_hold(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert outcome.failed == 0, f"{outcome.failed} of {outcome.attempted} examples in {name} (see the output above)"

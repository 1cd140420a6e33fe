"""The streaming client for pages: one ES module, which the server serves at `/perdure-stream.js`.

An application whose pages shall not ask another origin serves it itself: `source()` is its text.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

NAME: Final = "perdure-stream.js"
MEDIA_TYPE: Final = "text/javascript"


@cache
def source() -> str:
    """The module's text.

    >>> "export async function fetchWithStream" in source()
    True
    """
    return files("perdure.client").joinpath(NAME).read_text(encoding="utf-8")

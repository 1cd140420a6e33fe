"""A request to a served app and its answer, whatever carries them: ASGI, WSGI, or a framework."""

from __future__ import annotations

import asyncio
from functools import cache
from importlib.metadata import version
from typing import Final

import msgspec

from perdure.model.json import Json, encode
from perdure.wire import headers as names

SDK_LANGUAGE: Final = "py"
REQUEST_VERSION: Final = 2
"""The version of the protocol that the app speaks."""
HANDLED: Final = "x-inngest-sdk-handled"


@cache
def sdk_version() -> str:
    """The version of perdure."""
    # Reading it takes a third of what importing this package does.
    return version("perdure")


def sdk_name() -> str:
    """How the app names its SDK to servers."""
    return f"perdure-py:v{sdk_version()}"


class Request(msgspec.Struct):
    """A request. Header names are in lower case; `url` is as the caller wrote it, without its query.

    `gone` is set when the caller hangs up, where that can be known.
    """

    method: str
    url: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    framework: str
    gone: asyncio.Event | None = None


class Answer(msgspec.Struct):
    """What to answer. A caller that is `turned_away` is not told by what."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = {}
    turned_away: bool = False


def answer(status: int, value: Json, **headers: str) -> Answer:
    """An answer of JSON. Underscores in header names stand for dashes.

    >>> answer(200, {"ok": True}, retry_after="2")
    Answer(status=200, body=b'{"ok":true}', headers={'retry-after': '2'}, turned_away=False)
    """
    return Answer(status, encode(value), {name.replace("_", "-"): each for name, each in headers.items()})


def problem(status: int, code: str, name: str, message: str, *, retry: bool) -> Answer:
    """An answer that says what is wrong with the call, and whether another one may do better."""
    found = answer(status, {"code": code, "name": name, "message": message})
    found.headers[names.NO_RETRY] = "false" if retry else "true"
    return found


def unauthorized() -> Answer:
    """The answer to whoever did not prove to be the server."""
    return Answer(401, encode({"message": "Unauthorized"}), turned_away=True)

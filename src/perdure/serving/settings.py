"""How an app is served: in which mode, with which keys, and which server it belongs to.

Options come first, then the environment: PERDURE_ variables, and the INNGEST_ ones that the SDKs of the protocol
read. Without a word about development the mode is production, in which every call must be signed, so that an app
that was forgotten to be configured is closed and not open.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Final, Literal, TypedDict
from urllib.parse import urlsplit

import msgspec

from perdure.model.errors import ConfigError
from perdure.model.keys import NO_EVENT_KEY, EventKey, SigningKey

DEFAULT_BASE_URL: Final = "http://127.0.0.1:8288"

_PREFIXES: Final = ("PERDURE_", "INNGEST_")
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off", ""})


class ServeOptions(TypedDict, total=False):
    """What `serve` takes besides the app. All are optional, and default to the environment.

    `is_dev`: take calls of anyone, for development (DEV). `signing_key`: proves calls and requests
    (SIGNING_KEY); `signing_key_fallback`: is accepted too, while keys are changed (SIGNING_KEY_FALLBACK).
    `event_key`: for sending events (EVENT_KEY). `base_url`: the server (BASE_URL; API_BASE_URL and
    EVENT_API_BASE_URL where those differ). `serve_origin`, `serve_path`: where the server reaches the app, when that
    is not what requests say (SERVE_ORIGIN, SERVE_PATH). `app_version`: is shown for the app. `checkpointing`: record
    each step while the call goes on (True), instead of one call a step.
    """

    is_dev: bool | None
    signing_key: str | None
    signing_key_fallback: str | None
    event_key: str | None
    base_url: str | None
    serve_origin: str | None
    serve_path: str | None
    app_version: str | None
    checkpointing: bool


class Settings(msgspec.Struct, frozen=True):
    """The options as they are in force. `keys`: the signing key, and the one that is accepted beside it."""

    is_dev: bool
    keys: tuple[SigningKey, ...]
    event_key: str | None
    api_url: str
    event_url: str
    serve_origin: str | None
    serve_path: str | None
    env: str | None
    app_version: str | None
    checkpointing: bool

    @property
    def mode(self) -> Literal["dev", "cloud"]:
        """What the app expects its server to be, in the words of the protocol."""
        return "dev" if self.is_dev else "cloud"

    @property
    def event_key_hash(self) -> str | None:
        """What introspection tells of the event key."""
        return None if self.event_key is None else hashlib.sha256(self.event_key.encode()).hexdigest()


def resolve(options: ServeOptions, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings from options and environment. Raises `ConfigError` with every fault."""
    return _Resolver(options, environment).resolve()


class _Resolver:
    def __init__(self, options: ServeOptions, environment: Mapping[str, str]) -> None:
        self._options = options
        self._environment = environment
        self._problems = [f"{name}: is no option" for name in options if name not in ServeOptions.__annotations__]

    def resolve(self) -> Settings:
        is_dev, dev_url = self._mode()
        keys = self._keys(is_dev)
        event_key = self._event_key()
        base = self._url("base_url", self._text("base_url")) or dev_url or DEFAULT_BASE_URL
        settings = Settings(
            is_dev=is_dev,
            keys=keys,
            event_key=event_key,
            api_url=self._url("api_base_url", self._read("API_BASE_URL")) or base,
            event_url=self._url("event_api_base_url", self._read("EVENT_API_BASE_URL")) or base,
            serve_origin=self._url("serve_origin", self._text("serve_origin")),
            serve_path=self._text("serve_path"),
            env=self._read("ENV"),
            app_version=self._options.get("app_version"),
            checkpointing=self._options.get("checkpointing", True),
        )
        if settings.serve_path is not None and not settings.serve_path.startswith("/"):
            self._problems.append(f'serve_path: must begin with "/", got {settings.serve_path!r}')
        if self._problems:
            raise ConfigError("perdure.serve", self._problems)
        return settings

    def _read(self, name: str) -> str | None:
        found = (self._environment.get(prefix + name) for prefix in _PREFIXES)
        return next((value for value in found if value), None)

    def _text(self, option: str) -> str | None:
        value: object = self._options.get(option)
        if value is None:
            return self._read(option.upper())
        if isinstance(value, str) and value:
            return value
        # Not the value itself: it may be a key.
        self._problems.append(f"{option}: must be a text that is not empty, got {type(value).__name__}")
        return None

    def _mode(self) -> tuple[bool, str | None]:
        """Whether this is for development, and the URL that the variable may hold instead of a yes."""
        given = self._options.get("is_dev")
        text = (self._read("DEV") or "").strip()
        url = text.rstrip("/") if text.startswith(("http://", "https://")) else None
        if given is not None:
            return given, url if given else None
        if url is not None or text.lower() in _TRUE:
            return True, url
        if text.lower() not in _FALSE:
            self._problems.append(f"INNGEST_DEV: must be 1, 0 or the URL of a server, got {text!r}")
        return False, None

    def _keys(self, is_dev: bool) -> tuple[SigningKey, ...]:
        found: list[SigningKey] = []
        for option in ("signing_key", "signing_key_fallback"):
            text = self._text(option)
            if text is not None:
                try:
                    found.append(SigningKey.parse(text, named=option))
                except ConfigError as error:
                    self._problems += [f"{option}: {problem}" for problem in error.problems]
            elif option == "signing_key" and not is_dev:
                self._problems.append(
                    "signing_key: is required, for without it anyone could call the app: give it or set "
                    "PERDURE_SIGNING_KEY; for development set INNGEST_DEV=1 instead, or give is_dev=True"
                )
        return tuple(found)

    def _event_key(self) -> str | None:
        text = self._text("event_key")
        if text is None or text == NO_EVENT_KEY:
            return None
        try:
            EventKey.parse(text)
        except ConfigError as error:
            self._problems += [f"event_key: {problem}" for problem in error.problems]
        return text

    def _url(self, option: str, text: str | None) -> str | None:
        if text is None:
            return None
        try:
            parts = urlsplit(text)
            valid = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            valid = False
        if not valid:
            self._problems.append(f'{option}: must be a URL such as "{DEFAULT_BASE_URL}", got {text!r}')
        return text.rstrip("/")

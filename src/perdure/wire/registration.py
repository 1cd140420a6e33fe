"""What an app says of itself when it registers (parts B.1 to B.3): read, checked, and built.

`parse_registration` takes the body of `POST /fn/register`, and what an app answers to an in-band sync. It checks the
shapes of all functions and tells every fault at once; what their expressions and schedules mean is checked when they
are put in force. `RegistrationError.body()` is the answer to a registration that is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from perdure.model.config import FunctionConfig
from perdure.model.errors import ConfigError, PerdureError
from perdure.model.jcs import CanonicalJsonError, canonical
from perdure.model.json import InvalidJsonError, Json, decode
from perdure.wire.documents import call_url, document_of
from perdure.wire.fields import Fields, shown
from perdure.wire.functions import UnknownModeError, is_url, read_function, spelled

__all__ = [
    "Registration",
    "RegistrationError",
    "call_url",
    "document_of",
    "is_url",
    "parse_registration",
    "registration_document",
    "registration_of",
    "spelled",
]

INVALID_FUNCTION: Final = "At least one function is invalid"
APP_ID_REQUIRED: Final = "App ID required"
SCHEMA: Final = "0.1"

# Not part of what is registered: it differs from one request to the next without anything having changed.
_PASSING: Final = frozenset({"featureobservations", "headers", "idempotencykey"})
_NPM = re.compile(r"(?:inngest-)?js:v?(\d+)\.(\d+)\.(\d+)")
_DENIED_FROM: Final = (3, 22, 0)
_DENIED_TO: Final = (3, 53, 1)


class Registration(msgspec.Struct):
    """An app as it registers: where it is served, with what, and its functions. "" stands for what it did not say.

    `checksum` is equal for registrations that say the same. `warnings` tell what was made to fit.
    """

    app_id: str
    url: str
    sdk: str
    framework: str
    app_version: str
    deploy_type: str
    functions: tuple[FunctionConfig, ...]
    checksum: str
    warnings: tuple[str, ...] = ()

    @property
    def vulnerable(self) -> bool:
        """Whether the app's SDK is one of the npm versions with CVE-2026-42047, which some servers turn away."""
        found = _NPM.match(self.sdk)
        return found is not None and _DENIED_FROM <= tuple(map(int, found.groups())) <= _DENIED_TO


class RegistrationError(PerdureError):
    """A registration that is refused. `error` is the protocol's text, `details` say what to mend, one fault each.

    `code` is the machine word of refusals that have one; `app_id` and `url` are whose it was, as far as it said so.

    >>> RegistrationError(INVALID_FUNCTION, ["function shop-fulfil: debounce.period: is required"]).body()["details"]
    ['function shop-fulfil: debounce.period: is required']
    """

    def __init__(self, error: str, details: Iterable[str] = (), *, code: str = "") -> None:
        self.error = error
        self.details = list(details)
        self.code = code
        self.app_id = ""
        self.url = ""
        super().__init__(f"{error}: {'; '.join(self.details)}" if self.details else error)

    def body(self) -> dict[str, Json]:
        """The answer to the request, which goes out with status 400."""
        body: dict[str, Json] = {"error": self.error, "data": None, "status": 400}
        if self.details:
            body["details"] = self.details
        return {"code": self.code, **body} if self.code else body


def parse_registration(body: bytes) -> Registration:
    """Reads what an app sent. Raises `RegistrationError`."""
    try:
        document = decode(body)
    except InvalidJsonError as error:
        raise RegistrationError(f"Invalid request: the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise RegistrationError(f"Invalid request: the body must be an object, got {shown(document)}")
    try:
        return _read(document)
    except RegistrationError as error:
        error.app_id, error.url = _claimed(document)
        raise


def _read(document: dict[str, Json]) -> Registration:
    fields = Fields(document)
    try:
        app_id = fields.text("appName") or fields.text("appId")
        url, functions = fields.text("url") or "", fields.items("functions")
        sdk, framework = _sdk(fields), fields.text("framework") or ""
        version, deploy_type = fields.text("appVersion") or "", fields.text("deployType") or ""
    except ConfigError as error:
        raise RegistrationError(f"Invalid request: {'; '.join(error.problems)}") from error
    if app_id is None:
        raise RegistrationError(APP_ID_REQUIRED, ["appName: is required: the id that the SDK's client was made with"])
    if url and not is_url(url, ("http", "https", "ws", "wss")):
        raise RegistrationError(f"Invalid request: url: must be an absolute http or https URL, got {shown(url)}")
    found = registration_of(app_id, functions, url=url, sdk=sdk, framework=framework, app_version=version)
    found.deploy_type = deploy_type
    found.checksum = _checksum(document)
    return found


def registration_of(
    app_id: str,
    functions: Sequence[Json],
    *,
    url: str = "",
    sdk: str = "",
    framework: str = "",
    app_version: str = "",
) -> Registration:
    """A registration from function objects that came another way, such as from a worker that connects.

    Raises `RegistrationError`.
    """
    if not app_id:
        raise RegistrationError(APP_ID_REQUIRED, ["appName: is required: the id that the SDK's client was made with"])
    configs: list[FunctionConfig] = []
    problems: list[str] = []
    warnings: list[str] = []
    for index, value in enumerate(functions):
        try:
            configs.append(read_function(app_id, value, warnings))
        except UnknownModeError as error:
            said = f"{_name(value, index)}: {error.problems[0]}"
            raise RegistrationError(
                f"Invalid request: {_plain(error.mode)} does not belong to SingletonMode values", [said]
            ) from error
        except ConfigError as error:
            problems += [f"{_name(value, index)}: {problem}" for problem in error.problems]
    problems += _repeated(configs)
    if problems:
        raise RegistrationError(INVALID_FUNCTION, problems)
    said_of_app = {"app": app_id, "version": app_version, "sdk": sdk, "functions": list(functions)}
    checksum = _checksum(said_of_app)
    return Registration(app_id, url, sdk, framework, app_version, "", tuple(configs), checksum, tuple(warnings))


def registration_document(
    app_id: str,
    url: str,
    functions: Iterable[FunctionConfig],
    *,
    sdk: str,
    framework: str,
    app_version: str | None = None,
) -> dict[str, Json]:
    """The body with which an app that is served at `url` registers its functions.

    >>> registration_document("shop", "http://127.0.0.1:8000/api", [], sdk="perdure:v1.0.0", framework="asgi")["v"]
    '0.1'
    """
    document: dict[str, Json] = {
        "v": SCHEMA,
        "appName": app_id,
        "url": url,
        "deployType": "ping",
        "sdk": sdk,
        "framework": framework,
        "functions": [document_of(config, url) for config in functions],
    }
    return document if app_version is None else {**document, "appVersion": app_version}


def _claimed(document: dict[str, Json]) -> tuple[str, str]:
    """The app id and the URL in a registration that is refused."""
    fields = Fields(document)
    app_id, url = fields.get("appName") or fields.get("appId"), fields.get("url")
    return app_id if isinstance(app_id, str) else "", url if isinstance(url, str) else ""


def _sdk(fields: Fields) -> str:
    """The SDK as "js:v4.24.0"; an answer to an in-band sync names language and version apart."""
    sdk = fields.text("sdk")
    if sdk is not None:
        return sdk
    language, version = fields.text("sdkLanguage"), fields.text("sdkVersion")
    return f"{language}:v{version.removeprefix('v')}" if language and version else ""


def _checksum(document: dict[str, Json]) -> str:
    said = {name: value for name, value in document.items() if name.replace("_", "").lower() not in _PASSING}
    try:
        return hashlib.sha256(canonical(said)).hexdigest()
    except CanonicalJsonError as error:
        raise RegistrationError(f"Invalid request: {error}") from error


def _name(value: Json, index: int) -> str:
    name = Fields(value).get("id") if isinstance(value, dict) else None
    return f"function {_plain(name)}" if isinstance(name, str) else f"function {index + 1}"


def _plain(value: Json) -> str:
    return value[:120] if isinstance(value, str) else shown(value)


def _repeated(configs: list[FunctionConfig]) -> list[str]:
    ids = [config.id for config in configs]
    return [
        f"function {each}: id: is used by {ids.count(each)} functions"
        for each in sorted(set(ids))
        if ids.count(each) > 1
    ]

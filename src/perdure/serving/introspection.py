"""What a served app tells about itself (part B.3): to everybody in development, else to its server alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from perdure.model.config import FunctionConfig
from perdure.model.json import Json
from perdure.model.keys import SigningKey
from perdure.serving.exchange import SDK_LANGUAGE, sdk_name, sdk_version
from perdure.serving.settings import Settings
from perdure.wire.registration import registration_document

CAPABILITIES: Final = {"in_band_sync": "v1", "trust_probe": "v1"}
_SCHEMA: Final = "2024-05-24"
_SHOWN: Final = 12
"""How much of the hash of a signing key is told (digits), as the npm SDK does."""


def overview(settings: Settings, functions: int) -> dict[str, Json]:
    """What tells no secret."""
    return {
        "schema_version": _SCHEMA,
        "function_count": functions,
        "has_event_key": settings.event_key is not None,
        "has_signing_key": bool(settings.keys),
        "has_signing_key_fallback": len(settings.keys) > 1,
        "mode": settings.mode,
    }


def inspection(settings: Settings, app_id: str, functions: int, framework: str) -> dict[str, Json]:
    """What a server may know that proved itself. Of keys it gets hashes, to compare them."""
    return {
        **overview(settings, functions),
        "authentication_succeeded": True,
        "api_origin": settings.api_url,
        "app_id": app_id,
        "capabilities": CAPABILITIES,
        "env": settings.env,
        "event_api_origin": settings.event_url,
        "event_key_hash": settings.event_key_hash,
        "framework": framework,
        "sdk_language": SDK_LANGUAGE,
        "sdk_version": sdk_version(),
        "serve_origin": settings.serve_origin,
        "serve_path": settings.serve_path,
        "signing_key_hash": _hash(settings.keys[:1]),
        "signing_key_fallback_hash": _hash(settings.keys[1:]),
    }


def registration(
    settings: Settings, app_id: str, url: str, functions: Iterable[FunctionConfig], framework: str
) -> dict[str, Json]:
    """What the app registers with its server."""
    document = registration_document(
        app_id, url, functions, sdk=sdk_name(), framework=framework, app_version=settings.app_version
    )
    return {**document, "capabilities": CAPABILITIES}


def synced_in_band(
    settings: Settings, registered: dict[str, Json], told: dict[str, Json], framework: str
) -> dict[str, Json]:
    """The registration as the answer to a server that asked for it; `told` is what it may know of the app besides."""
    functions: list[Json] = registered["functions"]
    app_id: str = registered["appName"]
    return {
        "app_id": app_id,
        "appVersion": settings.app_version,
        "capabilities": CAPABILITIES,
        "env": settings.env,
        "framework": framework,
        "functions": functions,
        "inspection": told,
        "platform": None,
        "sdk": sdk_name(),
        "sdk_author": "perdure",
        "sdk_language": SDK_LANGUAGE,
        "sdk_version": sdk_version(),
        "url": registered["url"],
    }


def _hash(keys: tuple[SigningKey, ...]) -> str | None:
    # Enough of it to compare. The whole hash is what the server takes for a bearer: whoever got this answer by some
    # trick (a signature that was seen is good for five minutes) would have the server, too.
    return keys[0].bearer.rpartition("-")[2][:_SHOWN] if keys else None

"""Registrations as SDKs send them: what was seen on the wire, cut down to one function of each kind."""

from __future__ import annotations

from perdure.model.json import Json, encode

URL = "http://127.0.0.1:3000/api/inngest"


def function_object(function_id: str = "shop-fulfil", url: str = URL, **members: Json) -> dict[str, Json]:
    """A function object with the members given, beside those that every one has."""
    runtime = {"type": "http", "url": f"{url}?fnId={function_id}&stepId=step"}
    return {
        "id": function_id,
        "name": function_id,
        "triggers": [{"event": "shop/paid"}],
        "steps": {"step": {"id": "step", "name": "step", "runtime": runtime}},
        **members,
    }


def npm_request(*functions: dict[str, Json], app: str = "shop", url: str = URL, **members: Json) -> dict[str, Json]:
    """As an SDK of npm registers."""
    return {
        "url": url,
        "deployType": "ping",
        "framework": "nodejs",
        "appName": app,
        "functions": list(functions),
        "sdk": "js:v4.24.0",
        "v": "0.1",
        "capabilities": {"trust_probe": "v1", "connect": "v1"},
        **members,
    }


def pypi_request(*functions: dict[str, Json], app: str = "shop", url: str = URL) -> dict[str, Json]:
    """As the SDK of PyPI registers: other keys, and nulls."""
    return {
        "appname": app,
        "capabilities": {"connect": "v1", "in_band_sync": "v1", "trust_probe": "v1"},
        "deploy_type": "ping",
        "framework": "fast_api",
        "functions": list(functions),
        "sdk": "py:v0.5.19",
        "url": url,
        "v": "0.1",
        "app_version": None,
    }


def in_band_answer(*functions: dict[str, Json], app: str = "shop", url: str = URL) -> dict[str, Json]:
    """As an SDK answers when it is asked for its registration."""
    return {
        "app_id": app,
        "env": None,
        "framework": "nodejs",
        "functions": list(functions),
        "inspection": {"function_count": len(functions)},
        "sdk_author": "inngest",
        "sdk_language": "js",
        "sdk_version": "4.24.0",
        "url": url,
    }


def body(document: Json) -> bytes:
    """A document as it is sent."""
    return encode(document)

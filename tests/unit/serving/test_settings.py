"""Options and environment of a served app."""

from __future__ import annotations

import pytest

from perdure import ConfigError
from perdure.model.json import Json
from perdure.serving.settings import ServeOptions, resolve

KEY = "signkey-prod-00ff"


@pytest.mark.parametrize(
    ("environment", "is_dev", "api_url"),
    [
        ({"INNGEST_DEV": "1"}, True, "http://127.0.0.1:8288"),
        ({"INNGEST_DEV": "true"}, True, "http://127.0.0.1:8288"),
        ({"INNGEST_DEV": "http://dev.test:9000/"}, True, "http://dev.test:9000"),
        ({"INNGEST_DEV": "http://dev.test:9000", "INNGEST_BASE_URL": "http://b.test"}, True, "http://b.test"),
        ({"INNGEST_DEV": "0", "INNGEST_SIGNING_KEY": KEY}, False, "http://127.0.0.1:8288"),
        ({"INNGEST_SIGNING_KEY": KEY, "INNGEST_BASE_URL": "https://b.test/"}, False, "https://b.test"),
        ({"PERDURE_SIGNING_KEY": KEY, "INNGEST_SIGNING_KEY": "no key"}, False, "http://127.0.0.1:8288"),
        ({"PERDURE_DEV": "1", "INNGEST_DEV": "0"}, True, "http://127.0.0.1:8288"),
    ],
)
def test_the_environment_decides(environment: dict[str, str], is_dev: bool, api_url: str) -> None:
    settings = resolve({}, environment)
    assert (settings.is_dev, settings.api_url, settings.event_url) == (is_dev, api_url, api_url)
    assert settings.mode == ("dev" if is_dev else "cloud")


def test_options_come_before_the_environment() -> None:
    environment = {"INNGEST_DEV": "http://dev.test", "INNGEST_EVENT_KEY": "theirs", "INNGEST_SIGNING_KEY": "00aa"}
    settings = resolve({"is_dev": False, "event_key": "mine", "signing_key": KEY}, environment)
    assert not settings.is_dev and settings.event_key == "mine" and settings.api_url == "http://127.0.0.1:8288"
    assert settings.keys[0].bearer.startswith("signkey-prod-")


def test_the_server_may_have_two_addresses_and_two_keys() -> None:
    settings = resolve(
        {},
        {
            "INNGEST_API_BASE_URL": "http://api.test",
            "INNGEST_EVENT_API_BASE_URL": "http://events.test",
            "INNGEST_SIGNING_KEY": KEY,
            "INNGEST_SIGNING_KEY_FALLBACK": "11aa",
            "INNGEST_SERVE_ORIGIN": "https://shop.test/",
            "INNGEST_SERVE_PATH": "/hook",
            "INNGEST_ENV": "branch",
        },
    )
    assert (settings.api_url, settings.event_url) == ("http://api.test", "http://events.test")
    assert len(settings.keys) == 2 and settings.env == "branch"
    assert (settings.serve_origin, settings.serve_path) == ("https://shop.test", "/hook")


@pytest.mark.parametrize(
    ("options", "environment", "words"),
    [
        ({}, {}, ["signing_key: is required", "INNGEST_DEV=1"]),
        ({"signing_key": "xyz"}, {}, ["signing_key: must be hex"]),
        ({"signing_key": 5}, {}, ["signing_key: must be a text that is not empty, got int"]),
        ({"is_dev": True, "base_url": "localhost:8288"}, {}, ["base_url: must be a URL"]),
        ({"is_dev": True, "serve_path": "hook"}, {}, ['serve_path: must begin with "/"']),
        ({"is_dev": True, "event_key": "a/b"}, {}, ["event_key: must be letters"]),
        ({"is_dev": True, "sining_key": "00"}, {}, ["sining_key: is no option"]),
        ({}, {"INNGEST_DEV": "maybe"}, ["INNGEST_DEV: must be 1, 0 or the URL", "signing_key"]),
    ],
)
def test_every_fault_is_named(options: ServeOptions, environment: dict[str, str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(options, environment)
    assert all(word in str(caught.value) for word in words)


def test_no_key_is_shown() -> None:
    settings: Json = resolve({"signing_key": "signkey-prod-c0ffee00", "event_key": "secret-key"}, {})
    assert "c0ffee00" not in repr(settings.keys)
    with pytest.raises(ConfigError) as caught:
        resolve({"signing_key": "c0ffee0"}, {})
    assert "c0ffee0" not in str(caught.value)

"""Makes a model of pydantic-ai from a provider and a model's name. Importing this loads pydantic-ai."""

from __future__ import annotations

import os
from importlib.util import find_spec

from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model, infer_model

from perdure.agents.models.failure import ModelRejectedError
from perdure.agents.models.named import OwnAddress
from perdure.agents.models.providers import ALIASES, COMPATIBLE, INSTEAD, KEYS, OPENAI_LIKE, PACKAGES, Compatible

_MODULES = {"bedrock": "boto3", "google": "google.genai", "huggingface": "huggingface_hub", "mistral": "mistralai"}
"""What a library of `PACKAGES` is imported as, where it is not called like its extra."""


def make(provider: str, model: str, address: OwnAddress | None = None) -> Model:
    """The model. Raises `ModelRejectedError` naming what is missing: a key's variable, a package."""
    shown = f"{provider}/{model}"
    if address is not None:
        return _compatible(provider, model, address.url, address.key)
    name = ALIASES.get(provider, provider)
    found = COMPATIBLE.get(name)
    if found is None and name in INSTEAD and not _installed(name):
        found = INSTEAD[name]
    if found is None and name in OPENAI_LIKE and _own_address(name):
        found = Compatible("", KEYS[name])
    if found is not None:
        return _compatible(name, model, _address(name, found), _key(shown, found.keys))
    if not (name.startswith("openai") and os.environ.get("OPENAI_BASE_URL")):
        # A server of one's own may well need no key.
        _key(shown, KEYS.get(name, ()))
    try:
        return infer_model(f"{name}:{model}")
    except ImportError:
        extra = PACKAGES.get(name, name)
        raise ModelRejectedError(
            f'model {shown!r}: needs the library of {name}: pip install "pydantic-ai-slim[{extra}]"',
            code="not_installed",
            model=shown,
        ) from None
    except UserError as error:
        raise ModelRejectedError(f"model {shown!r}: {error}", code="missing_api_key", model=shown) from None


def _compatible(provider: str, model: str, url: str, key: str | None) -> Model:
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    return OpenAIChatModel(model, provider=OpenAICompatibleProvider(provider, base_url=url, api_key=key))


def _address(name: str, found: Compatible) -> str:
    return _own_address(name) or found.url


def _own_address(name: str) -> str | None:
    return os.environ.get(f"{name.replace('-', '_').upper()}_BASE_URL")


def _key(shown: str, variables: tuple[str, ...]) -> str | None:
    """The first of these variables that is set; None where none is needed."""
    for variable in variables:
        if os.environ.get(variable):
            return os.environ[variable]
    if not variables:
        return None
    raise ModelRejectedError(
        f"model {shown!r}: provider {shown.partition('/')[0]} needs an API key: set {' or '.join(variables)}",
        code="missing_api_key",
        model=shown,
    )


def _installed(name: str) -> bool:
    try:
        return find_spec(_MODULES.get(name, PACKAGES[name])) is not None
    except ModuleNotFoundError:
        return False

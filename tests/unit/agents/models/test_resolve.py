"""What may be given as a model, and what is said about what may not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from perdure.agents.messages import Message, TextPart
from perdure.agents.models import Call, ModelError, ModelRejectedError, Prompt, resolve
from perdure.agents.models.providers import ALIASES, COMPATIBLE, INSTEAD, KEYS, OPENAI_LIKE, PACKAGES
from perdure.testing.models import ScriptedModel

HELLO = Prompt([], [Message("m1", "user", [TextPart("Hello")], 0)])


def call() -> Call:
    return Call("run-1", lambda chunk: None)


def test_a_name_is_one_model() -> None:
    models = resolve("openrouter/anthropic/claude-sonnet-4-5", max_retries=1)
    assert (models.name, models.provider, models.model_id) == (
        "openrouter/anthropic/claude-sonnet-4-5",
        "openrouter",
        "anthropic/claude-sonnet-4-5",
    )
    assert models.retries == 1


def test_a_list_has_its_own_retries_and_leaves_out_what_is_disabled() -> None:
    models = resolve(
        [
            {"model": "openai/gpt-5.5", "maxRetries": 0, "id": "best"},
            {"model": "openai/gpt-4", "enabled": False},
            ScriptedModel(),
        ],
        max_retries=3,
    )
    assert [(entry.id, entry.max_retries) for entry in models.entries] == [("best", 0), ("test/scripted", 3)]
    assert models.retries == 4
    assert resolve(models) is models


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("gpt-5.5", 'expected "provider/model"'),
        ("openai/", 'expected "provider/model"'),
        ("opnai/gpt-5.5", "Did you mean 'openai'?"),
        ("nobody-at-all/x", "which is not known"),
        ([], "no enabled entry"),
        ({"model": "openai/gpt", "enabled": False}, "it is disabled"),
        ([{"model": "openai/gpt", "retries": 2}], "model[0]: unknown field 'retries'"),
        ([{"model": "openai/gpt", "max_retries": -1}], "model[0].max_retries: must be a whole number from 0 to 20"),
        (["openai/gpt", 7], "model[1]: expected"),
        ({"id": "acme/gpt"}, '"id" and "url" must be texts'),
        ({"id": "acme/gpt", "url": "http://x", "uri": 1}, "unknown field 'uri'"),
        (None, "got NoneType"),
    ],
)
def test_what_cannot_be_a_model_is_refused_with_its_place(spec: object, said: str) -> None:
    with pytest.raises(ModelError) as caught:
        resolve(spec)
    assert said in str(caught.value)


async def test_a_missing_key_names_provider_and_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "NOVITA_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, variable in (("openai/gpt-5.5", "OPENAI_API_KEY"), ("novita/some", "NOVITA_API_KEY")):
        with pytest.raises(ModelRejectedError) as caught:
            await resolve(name).ask(HELLO, call())
        assert caught.value.code == "missing_api_key"
        assert variable in str(caught.value) and name in str(caught.value)


async def test_a_missing_library_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "test")
    with pytest.raises(ModelRejectedError) as caught:
        await resolve("anthropic/claude-sonnet-4-5").ask(HELLO, call())
    assert caught.value.code == "not_installed"
    assert "pydantic-ai-slim[anthropic]" in str(caught.value)


async def test_without_the_extra_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "perdure.agents.models.making", None)
    with pytest.raises(ModelRejectedError) as caught:
        await resolve("openai/gpt-5.5").ask(HELLO, call())
    assert 'pip install "perdure[agents]"' in str(caught.value)


def test_resolving_loads_nothing_of_the_model_layer() -> None:
    code = (
        "import sys; from perdure.agents.models import resolve; resolve(['openai/gpt-5.5', 'groq/llama']);"
        "from perdure.testing.models import ScriptedModel; resolve(ScriptedModel());"
        "assert not {'pydantic_ai', 'pydantic', 'openai', 'aiohttp'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_tables_of_providers_agree() -> None:
    from pydantic_ai.providers import infer_provider_class

    assert not set(KEYS) & set(COMPATIBLE)
    assert set(KEYS) > OPENAI_LIKE
    assert set(INSTEAD) <= set(PACKAGES) <= set(KEYS)
    assert {alias for alias, name in ALIASES.items() if name not in KEYS and name not in COMPATIBLE} == set()
    for name in KEYS:
        if name not in PACKAGES:
            infer_provider_class(name)
    for table in (COMPATIBLE, INSTEAD):
        assert all(url.startswith("http") and not url.endswith("/") for url, _ in table.values())


@pytest.mark.parametrize("name", sorted(INSTEAD))
def test_a_provider_without_its_library_is_asked_by_openais_protocol(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perdure.agents.models import making

    monkeypatch.setattr(making, "_installed", lambda name: False)
    monkeypatch.setenv(INSTEAD[name].keys[0], "test")
    model = making.make(name, "some-model")
    assert type(model).__name__ == "OpenAIChatModel"
    assert str(model.base_url).rstrip("/") == INSTEAD[name].url


def test_an_address_of_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from perdure.agents.models.making import make

    monkeypatch.setenv("LMSTUDIO_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("TOGETHER_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("TOGETHER_API_KEY", "test")
    for name in ("lmstudio", "togetherai"):
        model = make(name, "some")
        assert str(model.base_url).startswith("http://127.0.0.1:9/v1")

"""What may be given as a model, and what it becomes: `Models`.

    "openai/gpt-5.5"                                         a name: provider and model
    {"id": "acme/gpt", "url": "https://...", "api_key": ...}  a name with its own (OpenAI-compatible) address
    ScriptedModel(...), any object with `name` and `ask`     a model of this package's kind
    OpenAIChatModel(...), TestModel(), ...                    a model of pydantic-ai
    [{"model": ..., "max_retries": 2, "enabled": True}, ...]  a list: the next one answers when the one before cannot

Only shapes are checked here, at the agent's making; a key that is missing shows when the model is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from perdure.agents.models.call import Model
from perdure.agents.models.failure import ModelError
from perdure.agents.models.fallback import ModelEntry, Models
from perdure.agents.models.layer import LayerModel
from perdure.agents.models.named import NamedModel, OwnAddress
from perdure.model.json import Json

ModelSpec: TypeAlias = "str | Model | Mapping[str, Json] | Sequence[ModelSpec] | object"
"""See the module's first lines."""

DEFAULT_RETRIES: Final = 2
_ENTRY: Final = frozenset({"model", "max_retries", "maxRetries", "enabled", "id"})
_ADDRESS: Final = frozenset({"id", "url", "api_key", "apiKey", "headers"})


def resolve(spec: ModelSpec, max_retries: int = DEFAULT_RETRIES) -> Models:
    """The models that a spec names; `max_retries` is for entries that do not say it themselves.

    Raises `ModelError`, which names the entry and the fix.

    >>> models = resolve(["openai/gpt-5.5", {"model": "anthropic/claude-sonnet-4-5", "max_retries": 0}])
    >>> models.name, models.retries
    ('openai/gpt-5.5', 3)
    """
    if isinstance(spec, Models):
        return spec
    _count(max_retries, "max_retries")
    if isinstance(spec, Sequence) and not isinstance(spec, str | bytes):
        entries = [found for index, item in enumerate(spec) if (found := _entry(item, max_retries, f"model[{index}]"))]
        if not entries:
            raise ModelError("model: the list has no enabled entry; give at least one")
        return Models(entries)
    found = _entry(spec, max_retries, "model")
    if found is None:
        raise ModelError('model: it is disabled ("enabled" is false), and there is no other')
    return Models([found])


def _entry(item: object, max_retries: int, where: str) -> ModelEntry | None:
    if isinstance(item, Mapping) and "model" in item:
        unknown = sorted(set(item) - _ENTRY)
        if unknown:
            raise ModelError(f"{where}: unknown field {unknown[0]!r}; known are model, max_retries, enabled, id")
        if not item.get("enabled", True):
            return None
        retries = item.get("max_retries", item.get("maxRetries", max_retries))
        _count(retries, f"{where}.max_retries")
        model = _model(item["model"], f"{where}.model")
        return ModelEntry(model, retries, str(item.get("id") or model.name))
    model = _model(item, where)
    return ModelEntry(model, max_retries, model.name)


def _model(item: object, where: str) -> Model:
    if isinstance(item, str):
        return NamedModel(item, where=where)
    if isinstance(item, Mapping):
        return _addressed(item, where)
    if callable(getattr(item, "ask", None)) and isinstance(getattr(item, "name", None), str):
        model: Model = item  # type: ignore[assignment]
        return model
    if callable(getattr(item, "request_stream", None)) and hasattr(item, "model_name"):
        return LayerModel(item)  # type: ignore[arg-type]
    raise ModelError(
        f'{where}: expected "provider/model", a list of models, or a model object; got {type(item).__name__}'
    )


def _addressed(item: Mapping[str, Json], where: str) -> Model:
    unknown = sorted(set(item) - _ADDRESS)
    if unknown or not isinstance(item.get("id"), str) or not isinstance(item.get("url"), str):
        wrong = f"unknown field {unknown[0]!r}" if unknown else '"id" and "url" must be texts'
        raise ModelError(
            f'{where}: {wrong}; a model with its own address is {{"id": "acme/gpt", "url": "https://..."}}'
        )
    headers = item.get("headers") or {}
    key = item.get("api_key", item.get("apiKey"))
    return NamedModel(item["id"], where=where, address=OwnAddress(item["url"], key, dict(headers)))


def _count(value: object, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 20:
        raise ModelError(f"{where}: must be a whole number from 0 to 20, got {value!r}")

"""A model by name: `provider/model`, made when it is first asked.

The name's shape and its provider are checked at once. Making the model loads pydantic-ai (in a thread: it takes half a
second) and needs the provider's key; what is missing is told as a failure that no retry helps.

Invariant: connections belong to an event loop, so a model that is asked from another one is made anew.
"""

from __future__ import annotations

import asyncio
import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perdure.agents.models.call import Answer, Call, Prompt
from perdure.agents.models.failure import ModelError, ModelRejectedError
from perdure.agents.models.layer import ask_layer, close_layer
from perdure.agents.models.providers import known, nearest

if TYPE_CHECKING:
    from pydantic_ai.models import Model as LayerModelType


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """Where a model is that speaks OpenAI's protocol, beyond the known providers."""

    url: str
    key: str | None = field(default=None, repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)


class NamedModel:
    """What `"openai/gpt-5.5"` names.

    >>> NamedModel("openai/gpt-5.5").name
    'openai/gpt-5.5'
    """

    def __init__(self, name: str, *, where: str = "model", address: OwnAddress | None = None) -> None:
        self.provider, self.model = split(name, where)
        self._name = name
        self._address = address
        if address is None and not known(self.provider):
            near = nearest(self.provider)
            hint = f" Did you mean {near!r}?" if near else ""
            raise ModelError(
                f"{where}: {name!r} names the provider {self.provider!r}, which is not known.{hint} Give one of the "
                'known providers, {"id": ..., "url": ...} for an OpenAI-compatible address, or a model object.'
            )
        self._made: LayerModelType | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._making = asyncio.Lock()

    @property
    def name(self) -> str:
        """As given."""
        return self._name

    async def ask(self, prompt: Prompt, call: Call) -> Answer:
        """Answers once; see `Model`."""
        model = await self._model()
        headers = {**(self._address.headers if self._address else {}), **prompt.headers}
        return await ask_layer(model, prompt, call, name=self._name, headers=headers)

    async def close(self) -> None:
        """Closes its connections."""
        made, self._made = self._made, None
        if made is not None and self._loop is asyncio.get_running_loop():
            await close_layer(made)

    async def _model(self) -> LayerModelType:
        loop = asyncio.get_running_loop()
        if self._made is not None and self._loop is loop:
            return self._made
        if self._loop is not loop:
            self._loop, self._making = loop, asyncio.Lock()
        async with self._making:
            if self._made is None or self._loop is not loop:
                try:
                    making = await asyncio.to_thread(importlib.import_module, "perdure.agents.models.making")
                except ImportError as error:
                    raise ModelRejectedError(
                        f'model {self._name!r}: needs pydantic-ai: pip install "perdure[agents]" ({error})',
                        code="not_installed",
                        model=self._name,
                    ) from None
                made: LayerModelType = await asyncio.to_thread(making.make, self.provider, self.model, self._address)
                self._made = made
            return self._made


def split(name: str, where: str = "model") -> tuple[str, str]:
    """Provider and model of a name. Raises `ModelError`.

    >>> split("openrouter/anthropic/claude-sonnet-4-5")
    ('openrouter', 'anthropic/claude-sonnet-4-5')
    """
    provider, slash, model = name.partition("/")
    if not slash and ":" in name:
        provider, _, model = name.partition(":")
    if not provider or not model or name != name.strip():
        raise ModelError(f'{where}: expected "provider/model", as "openai/gpt-5.5"; got {name!r}')
    return provider, model

"""Models of pydantic-ai's model layer as models of this package, without loading that layer until one is asked.

A model object that the user made stays the user's: its connections are not closed here.
"""

from __future__ import annotations

import asyncio
import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from perdure.agents.models.call import Answer, Call, Prompt

if TYPE_CHECKING:
    from pydantic_ai.models import Model as LayerModelType


_asking: ModuleType | None = None


class LayerModel:
    """A model object of pydantic-ai: `OpenAIChatModel(...)`, `FunctionModel(...)`, `TestModel()`."""

    def __init__(self, model: LayerModelType) -> None:
        self.model = model

    @property
    def name(self) -> str:
        """`provider/model`."""
        return f"{self.model.system}/{self.model.model_name}"

    async def ask(self, prompt: Prompt, call: Call) -> Answer:
        """Answers once; see `Model`."""
        return await ask_layer(self.model, prompt, call, name=self.name, headers=prompt.headers)

    async def close(self) -> None:
        """Nothing: it belongs to whoever made it."""


async def ask_layer(model: LayerModelType, prompt: Prompt, call: Call, *, name: str, headers: dict[str, str]) -> Answer:
    """Asks a model of the layer once. `name` is how it is shown, in errors too."""
    global _asking
    if _asking is None:
        _asking = await asyncio.to_thread(importlib.import_module, "perdure.agents.models.asking")
    answer: Answer = await _asking.ask(model, prompt, call, name=name, headers=headers)
    return answer


async def close_layer(model: LayerModelType) -> None:
    """Closes the connections that a model's provider opened by itself."""
    async with model:
        pass

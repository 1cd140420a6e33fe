"""Models: which one answers, how it is asked, and what an attempt that failed means.

`resolve` turns what an agent was given (`"openai/gpt-5.5"`, a list with fallbacks, a model object) into `Models`, and
`Models.ask` makes one attempt at one answer. Nothing here loads pydantic-ai until a model of its layer is asked.
"""

from __future__ import annotations

from perdure.agents.models.call import Answer, Call, Model, OutputSpec, Prompt, ToolChoice, ToolSpec
from perdure.agents.models.failure import ModelCallError, ModelError, ModelRejectedError, ModelUnavailableError
from perdure.agents.models.fallback import ModelEntry, Models, ask_model
from perdure.agents.models.spec import ModelSpec, resolve

__all__ = [
    "Answer",
    "Call",
    "Model",
    "ModelCallError",
    "ModelEntry",
    "ModelError",
    "ModelRejectedError",
    "ModelSpec",
    "ModelUnavailableError",
    "Models",
    "OutputSpec",
    "Prompt",
    "ToolChoice",
    "ToolSpec",
    "ask_model",
    "resolve",
]

"""Settings of a call as pydantic-ai names them, and warnings about those that it does not have.

Clients send `maxOutputTokens`, Python code `max_output_tokens`; a provider's own options come in
`provider_options[provider]`, and become settings with the provider's prefix, as `openai_reasoning_effort`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, cast

from perdure.agents.models.call import Prompt
from perdure.model.json import Json

if TYPE_CHECKING:
    from pydantic_ai.settings import ModelSettings

_NAMES: Final = {
    "max_output_tokens": "max_tokens",
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "seed": "seed",
    "stop_sequences": "stop_sequences",
    "logit_bias": "logit_bias",
    "parallel_tool_calls": "parallel_tool_calls",
    "timeout": "timeout",
    "request_timeout": "request_timeout",
    "first_event_timeout": "first_event_timeout",
    "thinking": "thinking",
    "service_tier": "service_tier",
}
_ELSEWHERE: Final = frozenset({"max_retries", "headers"})
"""What clients send among the settings, and others read."""


def layer_settings(prompt: Prompt, system: str, headers: dict[str, str]) -> tuple[ModelSettings, list[Json]]:
    """The settings, and a warning for each that is not known. `system` is the provider as pydantic-ai calls it.

    >>> from perdure.agents.models.call import Prompt
    >>> settings, warnings = layer_settings(
    ...     Prompt([], [], settings={"maxOutputTokens": 9, "mood": "good"}), "openai", {}
    ... )
    >>> settings["max_tokens"], warnings
    (9, [{'type': 'unsupported-setting', 'setting': 'mood'}])
    """
    found: dict[str, Json] = {"max_retries": 0}
    warnings: list[Json] = []
    for key, value in prompt.settings.items():
        name = snake(key)
        if value is None or name in _ELSEWHERE:
            continue
        if name in _NAMES:
            found[_NAMES[name]] = value
        else:
            warnings.append({"type": "unsupported-setting", "setting": key})
    found.update(_own(prompt, system))
    choice = _choice(prompt)
    if choice is not None:
        found["tool_choice"] = choice
    if headers:
        found["extra_headers"] = dict(headers)
    return cast("ModelSettings", found), warnings


def _own(prompt: Prompt, system: str) -> dict[str, Json]:
    """Options of the provider that is asked; those of others do not count."""
    own = prompt.provider_options.get(system)
    if not isinstance(own, dict):
        return {}
    prefix = re.sub(r"\W", "_", system)
    return {
        (name if name == "extra_body" or name.startswith(f"{prefix}_") else f"{prefix}_{name}"): value
        for name, value in ((snake(key), value) for key, value in own.items())
    }


def _choice(prompt: Prompt) -> Json:
    choice = prompt.tool_choice
    if not prompt.tools or choice in ("auto", "none"):
        # Without tools in the request there is nothing to choose: "none" sends none.
        return None
    return choice if isinstance(choice, str) else [choice.get("toolName") or choice.get("tool_name")]


def snake(name: str) -> str:
    """A camelCase name in snake case.

    >>> snake("maxOutputTokens"), snake("top_p")
    ('max_output_tokens', 'top_p')
    """
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: "_" + found[1].lower(), name)

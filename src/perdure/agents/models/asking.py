"""Asks a model of pydantic-ai's layer once. Importing this loads pydantic-ai.

The provider's library retries nothing (`max_retries` 0): attempts are the journal's, and each of them is seen. A
failure is classified by the layer's own categories (`classify`).
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Final

from pydantic import TypeAdapter
from pydantic_ai import exceptions as errors
from pydantic_ai.direct import model_request_stream
from pydantic_ai.messages import ModelMessage, ModelResponse, ModelResponseStreamEvent
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from perdure.agents.messages import MessageError, Usage
from perdure.agents.models.call import Answer, Call, OutputSpec, Prompt, ToolSpec
from perdure.agents.models.events import OUTPUT_TOOL, Events
from perdure.agents.models.failure import ModelRejectedError, ModelUnavailableError
from perdure.agents.models.settings import layer_settings
from perdure.agents.models.speaking import Speaker
from perdure.agents.prompt import model_messages
from perdure.model.json import Json

MAX_SEGMENTS: Final = 8
"""How often an answer is asked to go on where a provider pauses in the middle of it."""

_REASONS: Final = {"tool_call": "tool-calls", "content_filter": "content-filter", None: "stop"}
_event: Final[TypeAdapter[ModelResponseStreamEvent]] = TypeAdapter(ModelResponseStreamEvent)


async def ask(model: Model, prompt: Prompt, call: Call, *, name: str, headers: dict[str, str]) -> Answer:
    """One answer. Raises `ModelUnavailableError` and `ModelRejectedError`."""
    settings, warnings = layer_settings(prompt, model.system, headers)
    try:
        messages = model_messages(prompt.system, prompt.messages)
    except MessageError as error:
        raise ModelRejectedError(f"{name}: {error}", code="invalid_prompt", model=name) from None
    parameters = _parameters(model, prompt)
    speaker = Speaker(call, model=model.model_name, provider=name.partition("/")[0])
    speaker.warnings = warnings
    try:
        response = await _converse(model, messages, settings, parameters, speaker, call, raw=prompt.include_raw_chunks)
    except (errors.AgentRunError, errors.UserError) as error:
        raise classify(error, name) from None
    reason = _REASONS.get(response.finish_reason, response.finish_reason or "other")
    answer = speaker.answer(reason)
    if reason == "stop" and answer.tool_calls:
        answer.finish_reason = "tool-calls"
    return answer


async def _converse(
    model: Model,
    messages: list[ModelMessage],
    settings: ModelSettings,
    parameters: ModelRequestParameters,
    speaker: Speaker,
    call: Call,
    *,
    raw: bool,
) -> ModelResponse:
    """A request, and further ones while the provider has only paused."""
    segments = 0
    while True:
        async with model_request_stream(
            model, messages, model_settings=settings, model_request_parameters=parameters
        ) as stream:
            await _listen(stream, speaker, call, raw=raw)
            response = stream.get()
        _count(response, speaker)
        segments += 1
        if response.finish_reason is None and _says_why(model):
            raise errors.ModelConnectionError(model.model_name, "the answer broke off before its end")
        if response.state != "suspended" or segments == MAX_SEGMENTS:
            return response
        messages = [*messages, response]


def _says_why(model: Model) -> bool:
    """Whether a complete answer of this model always has a finish reason: OpenAI's protocols see to that."""
    inner: object = model
    while isinstance(inner, WrapperModel):
        inner = inner.wrapped
    openai = sys.modules.get("pydantic_ai.models.openai")
    return openai is not None and isinstance(inner, openai.OpenAIChatModel | openai.OpenAIResponsesModel)


async def _listen(stream: StreamedResponse, speaker: Speaker, call: Call, *, raw: bool) -> None:
    events = Events(speaker)
    async for event in stream:
        if not speaker.spoken:
            speaker.model = stream.model_name or speaker.model
            speaker.response_id = stream.provider_response_id
        if raw:
            speaker.begin()
            speaker.raw(_event.dump_python(event, mode="json"))
        events.take(event)
        await call.drained()
    speaker.response_id = stream.provider_response_id or speaker.response_id


def _count(response: ModelResponse, speaker: Speaker) -> None:
    used = response.usage
    speaker.usage += Usage(
        used.input_tokens,
        used.output_tokens,
        used.total_tokens,
        used.output_reasoning_tokens or used.details.get("reasoning_tokens", 0),
        used.cache_read_tokens,
    )
    if used.details:
        speaker.raw_usage = dict(used.details)
    cost = _cost(response)
    if cost is not None:
        speaker.cost = (speaker.cost or 0) + cost


def _cost(response: ModelResponse) -> float | None:
    """In USD; None where the price list does not have the model."""
    if response.usage.cost is not None:
        return float(response.usage.cost)
    if not response.model_name or not response.usage.has_values():
        return None
    try:
        return float(response.cost().total_price)
    except (LookupError, ValueError, AssertionError):
        return None


def _parameters(model: Model, prompt: Prompt) -> ModelRequestParameters:
    tools = [] if prompt.tool_choice == "none" else [_tool(tool) for tool in prompt.tools]
    parameters = ModelRequestParameters(function_tools=tools)
    return parameters if prompt.output is None else _with_output(model, parameters, prompt.output)


def _with_output(model: Model, parameters: ModelRequestParameters, output: OutputSpec) -> ModelRequestParameters:
    mode = output.mode
    if mode == "auto":
        mode = "native" if model.profile.get("supports_json_schema_output") else "prompted"
    if mode == "tool":
        tool = ToolDefinition(
            name=OUTPUT_TOOL,
            description=output.description or "The answer, in its final form.",
            parameters_json_schema=output.schema,
            kind="output",
        )
        return replace(parameters, output_mode="tool", output_tools=[tool], allow_text_output=False)
    wanted = OutputObjectDefinition(json_schema=output.schema, name=output.name, description=output.description)
    return replace(parameters, output_mode=mode, output_object=wanted)


def _tool(tool: ToolSpec) -> ToolDefinition:
    return ToolDefinition(
        name=tool.name, description=tool.description, parameters_json_schema=tool.schema, strict=tool.strict
    )


_UNAVAILABLE: Final[tuple[tuple[type[Exception], str], ...]] = (
    (errors.ModelRateLimitError, "rate_limited"),
    (errors.ModelOverloadedError, "overloaded"),
    (errors.ModelUnavailableError, "unavailable"),
    (errors.ModelServerError, "server_error"),
    (errors.ModelTimeoutError, "timeout"),
    (errors.ModelRequestTimeout, "timeout"),
    (errors.ModelConnectionError, "connection"),
)
_REJECTED: Final[tuple[tuple[type[Exception], str], ...]] = (
    (errors.ModelQuotaExceededError, "quota_exceeded"),
    (errors.ModelContextWindowExceededError, "context_window_exceeded"),
    (errors.ModelAuthenticationError, "authentication"),
    (errors.ModelNotFoundError, "not_found"),
    (errors.ModelRequestRejectedError, "rejected"),
    (errors.ContentFilterError, "content_filter"),
    (errors.UserError, "rejected"),
)
_RETRIED_STATUSES: Final = frozenset({408, 409, 425, 429})


def classify(error: Exception, name: str) -> ModelUnavailableError | ModelRejectedError:
    """A failure of the layer as one of ours, told without secrets. What is not known may be retried."""
    status = error.status_code if isinstance(error, errors.ModelHTTPError) else None
    text = _told(error, name, status)
    for kind, code in _REJECTED:
        if isinstance(error, kind):
            return ModelRejectedError(text, code=code, model=name, status=status)
    code = next((code for kind, code in _UNAVAILABLE if isinstance(error, kind)), "error")
    if code == "error" and status is not None and status < 500 and status not in _RETRIED_STATUSES:
        return ModelRejectedError(text, code="rejected", model=name, status=status)
    after = error.retry_after if isinstance(error, errors.ModelAPIError) else None
    return ModelUnavailableError(text, after or 0, code=code, model=name, status=status)


def _told(error: Exception, name: str, status: int | None) -> str:
    said = _body_message(error.body) if isinstance(error, errors.ModelAPIError) else None
    head = f"{name} answered {status}" if status is not None else name
    return f"{head}: {said or _first_line(error)}"


def _body_message(body: object) -> str | None:
    """What a provider says in words, wherever it says it."""
    while isinstance(body, dict):
        found: Json = body.get("message") or body.get("error") or body.get("detail")
        if isinstance(found, str):
            return found
        body = found
    return None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

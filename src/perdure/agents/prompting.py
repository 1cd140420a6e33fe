"""What the model is told in one step: system prompt, history, input, what the run has added, and the tools.

Everything here happens inside the step, so it may look anywhere; none of it is recorded.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from perdure.agents.dispatch.calling import explained
from perdure.agents.inputs import read_messages
from perdure.agents.messages import Message
from perdure.agents.models import Models, Prompt
from perdure.agents.options import OptionError
from perdure.agents.policies import StepInfo, steps_so_far
from perdure.agents.resuming import resumable
from perdure.agents.run import Run, decided
from perdure.agents.signals.signal import as_prompt
from perdure.agents.structured import output_spec
from perdure.model.json import Json

_PREPARED = frozenset({"model", "tool_choice", "active_tools", "system", "instructions", "messages", "model_settings"})


class Prepared(msgspec.Struct):
    """What is asked, and of which models."""

    prompt: Prompt
    models: Models


async def prepare(run: Run, number: int, arrived: list[Message]) -> Prepared:
    """The prompt of step `number`."""
    changes = await _changes(run, number)
    options, settings = run.options, {**run.options.model_settings, **(changes.get("model_settings") or {})}
    recalled = await run.recall()
    instructions = changes.get("instructions") or options.instructions
    system = [instructions] if instructions else await run.agent.get_instructions(options.request_context)
    system += options.system
    if recalled is not None:
        system += recalled.system
    if changes.get("system"):
        system += [changes["system"]] if isinstance(changes["system"], str) else list(changes["system"])
    messages = changes.get("messages")
    if messages is None:
        messages = _conversation(run, [] if recalled is None else recalled.messages, arrived)
    context = run.processor_context(number)
    messages = await run.agent.input_pipeline.run("process_input_step", list(map(as_prompt, messages)), context)
    choice = changes.get("tool_choice", options.tool_choice)
    active = changes.get("active_tools", options.active_tools)
    wanted = options.structured_output
    specs, explanation = explained(run, [] if choice == "none" else await run.box.specs(active))
    specs, resuming = resumable(run, specs)
    prompt = Prompt(
        system=[*system, *explanation, *resuming, *_system_of(messages)],
        messages=[message for message in messages if message.role != "system"],
        tools=specs,
        tool_choice=choice,
        settings=settings,
        output=output_spec(wanted) if wanted is not None and wanted.model is None else None,
        headers=options.headers,
        provider_options=options.provider_options,
        include_raw_chunks=options.include_raw_chunks,
    )
    return Prepared(prompt, run.models(changes.get("model")))


def _conversation(run: Run, history: list[Message], arrived: list[Message]) -> list[Message]:
    context = read_messages(
        run.options.context,
        new_id=lambda place: f"{run.run_id}-c{place}",
        now=run.request.started_at,
    )
    conversation = [*history, *context, *run.state.input, *run.state.response(), *arrived]
    for turn in run.state.turns:
        if turn.retry is not None and turn is run.state.last:
            # Only the model is told, and only once, what was wrong with the answer that did not count.
            text = f"Your last answer was not accepted: {turn.retry}. Answer again."
            conversation += read_messages(
                {"role": "user", "content": text}, new_id=lambda _: f"{run.run_id}-r", now=run.request.started_at
            )
    return conversation


def _system_of(messages: list[Message]) -> list[str]:
    return [message.text for message in messages if message.role == "system"]


async def _changes(run: Run, number: int) -> Mapping[str, Json]:
    policy = run.policy(run.options.prepare_step)
    if policy is None:
        return {}
    info = StepInfo.of(run, number)
    changes = await decided(policy, info, steps_so_far(run.state))
    if changes is None:
        return {}
    unknown = set(changes) - _PREPARED if isinstance(changes, Mapping) else {repr(changes)}
    if unknown:
        raise OptionError(f"prepare_step: may change {', '.join(sorted(_PREPARED))}; it gave {sorted(unknown)[0]}")
    found: Mapping[str, Json] = changes
    return found

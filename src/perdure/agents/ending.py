"""The end of a run: what is said, and the work that is left.

A run ends inside its last `llm:<n>` wherever nothing else is to be done; otherwise in the step `finish`: after tools,
or where processors, the memory or a second model have to see the whole of it.
"""

from __future__ import annotations

from functools import partial

from perdure.agents import said
from perdure.agents.chunks import Chunk, chunk
from perdure.agents.journal import StepScope
from perdure.agents.messages import Message, TextPart, Usage
from perdure.agents.models import Call, OutputSpec, Prompt, resolve
from perdure.agents.options import StructuredOutput
from perdure.agents.processors import Tripwire
from perdure.agents.run import Run
from perdure.agents.scoring import Judged, scores, told
from perdure.agents.state import RunResult, Turn
from perdure.agents.structured import StructuredOutputError, read_object
from perdure.model.json import Json

_RETRIES = 2


def ends_here(run: Run) -> bool:
    """Whether a run may end where its model has answered, without a step `finish`."""
    wanted = run.options.structured_output
    second = wanted is not None and wanted.model is not None
    memory = run.services.memory
    work = memory is not None and memory.needs_finish
    judged = bool(run.judges())
    return not (second or work or judged or run.agent.output_pipeline.has("process_output_result"))


def follow_up(run: Run, turn: Turn, *, continued: bool) -> Chunk:
    """The `step-finish` of a turn."""
    reason = "other" if turn.answer is None else turn.answer.finish_reason
    reason = turn.reason or ("retry" if turn.retry is not None else reason)
    # The end of a step tells into which message the run goes on.
    message_id = run.state.message_id(turn.number + continued)
    return said.step_finish(run.run_id, message_id, turn.answer, reason=reason, continued=continued)


def closing(run: Run, turn: Turn | None, reason: str) -> list[Chunk]:
    """The last chunks of a run. `turn` is the one that ends with it and is not in the state yet; None where it is."""
    state = run.state
    usage, cost, text = state.usage, state.cost, state.text
    chunks: list[Chunk] = []
    count = len(state.turns)
    if turn is not None:
        answer = turn.answer
        usage += answer.usage if answer is not None else Usage()
        if answer is not None and answer.cost is not None:
            cost = (cost or 0) + answer.cost
        text = "" if answer is None else answer.text
        chunks.append(follow_up(run, turn, continued=False))
        count += 1
    message_id = state.message_id(max(count - 1, 0))
    chunks.append(said.finish(run.run_id, message_id, reason=reason, text=text, usage=usage, cost=cost, steps=count))
    return chunks


async def finish(run: Run, reason: str) -> RunResult:
    """Ends a run in a step of its own."""
    recorded = await run.journal.step("finish", partial(_attempt, run, reason), retries=_RETRIES)
    result = run.state.result(recorded.get("reason", reason))
    for field in ("object", "error", "tripwire", "text", "scores"):
        if field in recorded:
            setattr(result, field, recorded[field])
    return result


async def _attempt(run: Run, reason: str, scope: StepScope) -> dict[str, Json]:
    recorded: dict[str, Json] = {"reason": reason}
    try:
        recorded |= await _work(run, reason)
    except Tripwire as tripwire:
        recorded |= {"reason": "tripwire", "tripwire": tripwire.to_json()}
        run.journal.push(chunk("tripwire", run.run_id, **tripwire.to_json()))
    except Exception as error:
        # Processors, models and the memory may fail in any way; the last attempt tells of it.
        if scope.attempt < _RETRIES and not isinstance(error, StructuredOutputError):
            raise
        recorded |= {"reason": "error", "error": said.told_error(error)}
        run.journal.push(said.error(run.run_id, recorded["error"]))
    _say_end(run, recorded["reason"])
    return recorded


async def _work(run: Run, reason: str) -> dict[str, Json]:
    recorded: dict[str, Json] = {}
    messages = run.state.response()
    error = run.state.last.error if run.state.last is not None else None
    if error is None:
        changed = await _processed(run, messages)
        if changed is not None:
            messages = changed
            recorded["text"] = next((item.step_texts[-1] for item in reversed(changed) if item.role == "assistant"), "")
        wanted = run.options.structured_output
        if wanted is not None and wanted.model is not None and reason in ("stop", "length"):
            recorded["object"] = await _second_model(run, wanted)
    else:
        _say_failure(run, error)
    memory = run.services.memory
    if memory is not None and await run.recall() is not None:
        passing = {item.message.id for turn in run.state.turns for item in turn.arrived + turn.late if item.transient}
        await memory.save([message for message in messages if message.id not in passing])
        if memory.needs_finish and error is None:
            await memory.finish([*run.state.input, *messages], partial(_plain_answer, run))
    if error is None:
        last = run.state.last
        found = recorded.get("object", last.object if last is not None else None)
        recorded |= await judge(run, messages, recorded.get("text", run.state.text), found)
    return recorded


async def judge(run: Run, messages: list[Message], text: str, found: Json) -> dict[str, Json]:
    """What the scorers of a run say to what it came to, as its last step records it; says it. Inside that step."""
    judges = run.judges()
    if not judges:
        return {}
    judged = Judged(run.run_id, run.agent.id, run.state.input, messages, text, found, run.options.request_context)
    given = await scores(judges, judged)
    for score in given:
        run.journal.push(told(run.run_id, score))
    return {"scores": given}


async def _processed(run: Run, messages: list[Message]) -> list[Message] | None:
    pipeline = run.agent.output_pipeline
    if not pipeline.has("process_output_result"):
        return None
    changed: list[Message] = await pipeline.run(
        "process_output_result", messages, run.processor_context(len(run.state.turns))
    )
    return changed


async def _second_model(run: Run, wanted: StructuredOutput) -> Json:
    system = wanted.instructions or "Put what the text says into the JSON that is asked for. Add nothing."
    messages = [Message(f"{run.run_id}-s0", "user", [TextPart(run.state.text)], run.request.started_at)]
    prompt = Prompt([system], messages, output=OutputSpec(wanted.schema, mode=wanted.mode))
    answer = await resolve(wanted.model).ask(prompt, Call(run.run_id, _unsaid, now=run.journal.now))
    content: dict[str, Json] = {"type": "object-result", "runId": run.run_id, "from": "AGENT"}
    try:
        content["object"] = read_object(answer.text, wanted)
    except StructuredOutputError:
        if wanted.error_strategy == "strict":
            raise
        if wanted.error_strategy == "warn":
            return None
        content |= {"object": wanted.fallback_value, "metadata": {"fallback": True}}
    run.journal.push(Chunk(content))
    return content["object"]


async def _plain_answer(run: Run, system: str, user: str, model: Json) -> str:
    """An answer that nobody hears, of this model or the run's: a title, for instance."""
    messages = [Message(f"{run.run_id}-t0", "user", [TextPart(user)], run.request.started_at)]
    answer = await run.models(model).ask(Prompt([system], messages), Call(run.run_id, _unsaid, now=run.journal.now))
    return answer.text


def _unsaid(_: Chunk) -> None:
    """Chunks of a call whose answer is not the run's."""


def _say_failure(run: Run, error: dict[str, Json]) -> None:
    """What a step that could not even record its error would have said."""
    last = run.state.last
    if last is not None and last.answer is None:
        message_id = run.state.message_id(last.number)
        if last.number == 0:
            run.journal.push(said.start(run.run_id, run.agent.id, message_id))
        else:
            run.journal.push(follow_up(run, run.state.turns[-2], continued=True))
        run.journal.push(said.step_start(run.run_id, last.number, message_id, run.journal.now()))
    run.journal.push(said.error(run.run_id, error))


def _say_end(run: Run, reason: str) -> None:
    asked = [turn for turn in run.state.turns if not turn.stopped]
    if asked and not asked[-1].waiting:
        run.journal.push(follow_up(run, asked[-1], continued=False))
    if reason == "max-steps":
        text = f"the run reached its limit of {run.max_steps} steps before the model was done: raise max_steps"
        run.journal.push(chunk("warning", run.run_id, code="max-steps", message=text))
    for item in closing(run, None, reason):
        run.journal.push(item)

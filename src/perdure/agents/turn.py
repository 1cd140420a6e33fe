"""One turn of the model: the step `llm:<n>`.

What happened before it is said first (`start`, or the end of the step before), then the model's chunks; where nothing
is left to do, the end of the run as well. So a run without tools is one step, and one with a tool three.

Invariants: everything said here is said again by each attempt, for the journal takes back what a failed one said; an
error that no attempt mends is recorded as the answer, and ends the run.
"""

from __future__ import annotations

from functools import partial

import msgspec

from perdure.agents import said
from perdure.agents.chunks import Chunk, chunk
from perdure.agents.dispatch.arriving import holds, pending, reconcile, reconciled, take_in
from perdure.agents.dispatch.calling import plans
from perdure.agents.ending import closing, ends_here, follow_up
from perdure.agents.errors import AgentError
from perdure.agents.fold import Fold
from perdure.agents.gates import needs_approval
from perdure.agents.inputs import read_messages
from perdure.agents.journal import StepScope
from perdure.agents.merging import merge_results
from perdure.agents.messages import Message, Part, TextPart, ToolPart, Usage
from perdure.agents.models import Answer, Call
from perdure.agents.policies import Iteration, StepInfo, steps_so_far, summary
from perdure.agents.ports import Arrived
from perdure.agents.processors import Tripwire
from perdure.agents.prompting import Prepared, prepare
from perdure.agents.run import Run, decided
from perdure.agents.signals.signal import signal_chunk, signal_of
from perdure.agents.state import Turn
from perdure.agents.structured import ObjectStream, StructuredOutputError, read_object
from perdure.model.errors import NonRetriableError
from perdure.model.json import Json
from perdure.model.limits import MAX_RETRIES


async def model_turn(run: Run, number: int) -> Turn:
    """Asks the model once, durably. Raises `StepError` where not even an error could be recorded."""
    retries = min(run.models().retries, MAX_RETRIES)
    plain = await run.journal.step(f"llm:{number}", partial(_attempt, run, number, retries), retries=retries)
    return Turn.from_json(number, plain)


async def _attempt(run: Run, number: int, retries: int, scope: StepScope) -> Json:
    attempt = _Attempt(run, number, scope)
    try:
        await attempt.take()
    except Tripwire as tripwire:
        attempt.tripped(tripwire)
    except Exception as error:
        # The model, processors, policies and the memory may fail in any way; the last attempt tells of it.
        final = scope.attempt >= retries or isinstance(error, NonRetriableError | AgentError | StructuredOutputError)
        if not final:
            raise
        attempt.failed(error)
    await attempt.end()
    return attempt.turn.to_json()


class _Attempt:
    """One attempt at a turn."""

    def __init__(self, run: Run, number: int, scope: StepScope) -> None:
        self.run = run
        self.turn = Turn(number)
        self._scope = scope
        self._said = Fold()
        self._before_said = self._opened = False
        self._news: list[Chunk] = []
        run.state.arriving = False
        self._last: list[Chunk] = []
        self._completed: list[Message] = []
        run.state.input = run.request.read() if number == 0 else run.state.input

    @property
    def _message_id(self) -> str:
        return self.run.state.message_id(self.turn.number)

    @property
    def _step_id(self) -> str:
        return f"llm:{self.turn.number}"

    async def take(self) -> None:
        """The whole turn."""
        run, turn = self.run, self.turn
        inbox = run.services.inbox
        turn.arrived = [] if inbox is None else await inbox.claim(self._step_id)
        turn.tasks = []
        self._news = await take_in(run, turn)
        if await self._stopped():
            return
        run.state.arriving = bool(turn.arrived)
        self._before(continued=True)
        await self._process_input()
        recalled = await run.recall()
        if recalled is not None and turn.number == 0:
            turn.until = recalled.until
            run.state.input, self._completed = merge_results(recalled.messages, run.state.input)
            turn.input = run.state.input if self._completed else turn.input
        prepared = await prepare(run, turn.number, [item.message for item in turn.arrived])
        self._open()
        answer = await self._ask(prepared)
        turn.answer = answer
        try:
            context = run.processor_context(turn.number)
            answer.parts = await run.agent.output_pipeline.run("process_output_step", answer.parts, context)
        except Tripwire as tripwire:
            if not tripwire.retry or run.state.retries() >= self._processor_retries:
                raise
            turn.retry = tripwire.reason
            return
        turn.background = plans(run, answer)
        tools = [(call, run.box.known(call.tool_name)) for call in turn.calls]
        turn.gated = [call.tool_call_id for call, found in tools if await needs_approval(run, call, found)]
        if all(found is not None and found.is_client_tool for _, found in tools):
            await self._close(answer)

    @property
    def _processor_retries(self) -> int:
        asked = self.run.options.max_processor_retries
        return self.run.agent.max_processor_retries if asked is None else asked

    async def _process_input(self) -> None:
        run = self.run
        if self.turn.number or not run.agent.input_pipeline.has("process_input"):
            return
        context = run.processor_context(0)
        run.state.input = await run.agent.input_pipeline.run("process_input", list(run.state.input), context)
        self.turn.input = run.state.input

    async def _stopped(self) -> bool:
        """Whether a policy ends the run after the step before; what it wants to say to the model comes in here."""
        run, before = self.run, self.run.state.last
        if before is None or not before.calls:
            return False
        stop_when = run.policy(run.options.stop_when)
        stops = stop_when is not None and bool(await decided(stop_when, steps_so_far(run.state)))
        verdict = await self._verdict(before, is_final=stops)
        if not stops and verdict.get("continue", True):
            self.turn.arrived += _feedback(run, before.number, verdict)
            return False
        self.turn.stopped = True
        self.turn.reason = before.answer.finish_reason if before.answer is not None else "other"
        if not ends_here(run):
            return True
        self._before(continued=False)
        self._last = closing(run, None, self.turn.reason)
        self.turn.done = True
        return True

    async def _verdict(self, turn: Turn, *, is_final: bool) -> dict[str, Json]:
        policy = self.run.policy(self.run.options.on_iteration_complete)
        if policy is None:
            return {}
        run = self.run
        step = summary(run.state, turn)
        told = Iteration(turn.number + 1, run.max_steps, is_final, step, StepInfo.of(run, turn.number))
        verdict = await decided(policy, told)
        return verdict if isinstance(verdict, dict) else {}

    def _before(self, *, continued: bool) -> None:
        """Says what comes before the model: `start`, or what came in meanwhile and the end of the step before."""
        if self._before_said:
            return
        self._before_said = True
        run, before = self.run, self.run.state.last
        if before is None:
            self._push(said.start(run.run_id, run.agent.id, self._message_id))
            # What the run begins with may be signals, which those who follow the thread have not heard of.
            signals = [signal_of(message) for message in run.state.input]
            self._push([signal_chunk(signal, run.run_id) for signal in signals if signal is not None])
        for item in [*(before.late if before is not None else []), *self.turn.arrived]:
            if item.chunk is not None:
                self._push(item.chunk)
        self._push(self._news)
        if before is not None:
            # After a wait for background tasks a new message begins: the end of the one before has been told.
            begun = said.start(run.run_id, run.agent.id, self._message_id) if before.waiting else None
            self._push(begun or follow_up(run, before, continued=continued))

    def _open(self) -> None:
        self._before(continued=True)
        if not self._opened:
            self._opened = True
            self._push(said.step_start(self.run.run_id, self.turn.number, self._message_id, self.run.journal.now()))

    def _push(self, chunks: Chunk | list[Chunk]) -> None:
        for item in [chunks] if isinstance(chunks, Chunk) else chunks:
            self.run.journal.push(item)

    async def _ask(self, prepared: Prepared) -> Answer:
        run, wanted = self.run, self.run.options.structured_output
        context = run.processor_context(self.turn.number)
        objects = ObjectStream() if prepared.prompt.output is not None and wanted is not None else None

        def say(item: Chunk) -> None:
            changed = run.agent.output_pipeline.say(item, context)
            if changed is None:
                return
            self._said.take(changed)
            if objects is not None and changed.type == "text-delta":
                partial_object = objects.feed(changed.payload["text"])
                if partial_object is not None:
                    self._push(_object_chunk("object", run.run_id, partial_object))
            run.journal.push(changed)

        call = Call(
            run.run_id,
            say,
            drained=run.journal.drained,
            now=run.journal.now,
            used_ids=run.state.used_ids(),
            attempt=self._scope.attempt,
        )
        return await prepared.models.ask(prepared.prompt, call)

    async def _close(self, answer: Answer) -> None:
        """Nothing is left for us to do: ends the run, unless somebody has something to add."""
        run, turn = self.run, self.turn
        verdict = await self._verdict(turn, is_final=True)
        if not turn.calls:
            self._read_object(answer)
            if not run.is_last(turn.number):
                turn.late = _feedback(run, turn.number, verdict)
            if not turn.late and run.services.inbox is not None:
                turn.late = await run.services.inbox.close(self._step_id)
        if turn.late:
            return
        # Some providers end with "tool-calls" though they made none: nothing is left for the caller then.
        ended = "stop" if answer.finish_reason == "tool-calls" else answer.finish_reason
        turn.reason = "tool-calls" if turn.calls else ended
        if not turn.calls and holds(run):
            turn.waiting = True
            self._push(pending(closing(run, turn, turn.reason)))
        elif ends_here(run):
            self._last = closing(run, turn, turn.reason)
            turn.done = True

    def _read_object(self, answer: Answer) -> None:
        wanted = self.run.options.structured_output
        if wanted is None or wanted.model is not None:
            return
        metadata = None
        try:
            self.turn.object = read_object(answer.text, wanted)
        except StructuredOutputError:
            if wanted.error_strategy == "strict":
                raise
            if wanted.error_strategy == "warn":
                return
            self.turn.object, metadata = wanted.fallback_value, {"fallback": True}
        self._push(_object_chunk("object-result", self.run.run_id, self.turn.object, metadata))

    def tripped(self, tripwire: Tripwire) -> None:
        """A processor stops the run."""
        run, turn = self.run, self.turn
        self._before(continued=False)
        turn.tripwire, turn.reason, turn.done = tripwire.to_json(), "tripwire", True
        turn.answer = self._partial("tripwire") if self._opened else None
        self._push(chunk("tripwire", run.run_id, **turn.tripwire))
        self._last = closing(run, turn if self._opened else None, "tripwire")

    def failed(self, error: Exception) -> None:
        """The model, or what surrounds it, fails for good."""
        run, turn = self.run, self.turn
        self._open()
        turn.error, turn.reason, turn.done = said.told_error(error), "error", True
        turn.answer = self._partial("error")
        turn.late, turn.gated, turn.object = [], [], None
        self._push(said.error(run.run_id, turn.error))
        self._last = closing(run, turn, "error")

    def _partial(self, reason: str) -> Answer:
        """What was said before it ended: of calls that nobody carries out, nothing is kept."""
        if self.turn.answer is not None:
            parts: list[Part] = [part for part in self.turn.answer.parts if not isinstance(part, ToolPart)]
            return msgspec.structs.replace(self.turn.answer, parts=parts, finish_reason=reason)
        step = self._said.step
        parts = [part for part in step.message(self.run.run_id).parts if not isinstance(part, ToolPart)]
        parts = [part for part in parts if not isinstance(part, TextPart) or part.text]
        models = self.run.models()
        return Answer(parts, reason, Usage(), step.model or models.name, models.name.partition("/")[0])

    async def end(self) -> None:
        """Keeps what is new, and then says that the run is over, if it is: who hears that finds it kept."""
        await self._save()
        self._push(self._last)

    async def _save(self) -> None:
        """Keeps what is new in the conversation once a message of the assistant is whole, and at the start of a run.

        Between two steps that go into the same message nothing is saved: what a long run has said is not written again
        with each of its steps.
        """
        run, memory, turn = self.run, self.run.services.memory, self.turn
        if memory is None or run.recalled is None:
            return
        state, begins = run.state, run.state.begins(turn.number)
        whole = turn.reason is not None or turn.late or turn.waiting
        if turn.number and begins < turn.number and not whole:
            return
        if turn.tripwire is not None and not turn.number:
            return
        since = [each.number for each in reconciled(run, turn)] + [max(turn.number - 1, 0)]
        kept = state.kept(min(since), turn)
        await memory.save(kept if turn.number else [*self._completed, *state.input, *kept])
        await reconcile(run)


def _feedback(run: Run, number: int, verdict: dict[str, Json]) -> list[Arrived]:
    text = verdict.get("feedback")
    if not text or not verdict.get("continue", True):
        return []
    given = {"id": f"{run.run_id}-f{number}", "role": "user", "content": text}
    return [Arrived(item) for item in read_messages(given, new_id=str, now=run.request.started_at)]


def _object_chunk(kind: str, run_id: str, found: Json, metadata: dict[str, Json] | None = None) -> Chunk:
    content: dict[str, Json] = {"type": kind, "runId": run_id, "from": "AGENT", "object": found}
    if metadata is not None:
        content["metadata"] = metadata
    return Chunk(content)

"""A list of models, tried in order: which of them an attempt asks, and what its failure means for the next one.

One `ask` is one attempt, and an attempt is one request: retrying belongs to whoever records (a step takes back what a
failed attempt has said before it starts the next one). So an entry with `max_retries=2` is asked by three attempts, and
the attempt after them goes to the next entry.

Invariants: after words have been said, an attempt never goes on with another model, since two beginnings would be
heard; a failure that would repeat itself skips to the next entry in the same attempt while nothing was said.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from perdure.agents.chunks import Chunk
from perdure.agents.models.call import Answer, Call, Model, Prompt
from perdure.agents.models.failure import ModelCallError, ModelRejectedError, ModelUnavailableError
from perdure.model.errors import NonRetriableError

FIRST_DELAY: Final = 1.0
"""The pause after the first failure, in seconds; it doubles with each further one."""
LONGEST_DELAY: Final = 10.0
"""The longest pause that is chosen here. What a provider asks for may be longer."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model in the list: asked `max_retries + 1` times before the next one is."""

    model: Model
    max_retries: int
    id: str


class Models:
    """The models of an agent, in the order in which they are asked; at least one."""

    def __init__(self, entries: Sequence[ModelEntry], *, chance: Callable[[], float] = random.random) -> None:
        self.entries = list(entries)
        self._chance = chance

    @property
    def retries(self) -> int:
        """How many attempts may follow the first: the `retries` of the step that asks."""
        return sum(entry.max_retries + 1 for entry in self.entries) - 1

    @property
    def name(self) -> str:
        """The first one's, as `openai/gpt-5.5`."""
        return self.entries[0].model.name

    @property
    def provider(self) -> str:
        """What stands before the first slash of the name."""
        return self.name.partition("/")[0]

    @property
    def model_id(self) -> str:
        """What stands behind it."""
        return self.name.partition("/")[2] or self.name

    async def ask(self, prompt: Prompt, call: Call) -> Answer:
        """Makes one attempt.

        Raises `ModelUnavailableError` (a `RetryAfterError`) when another attempt may help, and `ModelRejectedError`
        (a `NonRetriableError`) when none will.
        """
        position, tries = self._place(call.attempt)
        while True:
            entry = self.entries[position]
            said = _Heard(call.say)
            try:
                return await entry.model.ask(prompt, replace(call, say=said))
            except ModelRejectedError as error:
                if position + 1 == len(self.entries):
                    raise
                if said.anything:
                    raise self._later(error, entry, 0) from None
                position += 1
            except ModelCallError as error:
                raise self._later(error, entry, tries) from None
            except NonRetriableError:
                # Not of the model: a processor of what it says has stopped the run.
                raise
            except Exception as error:
                raise self._later(error, entry, tries) from error

    async def close(self) -> None:
        """Lets go of the connections of all of them."""
        for entry in self.entries:
            await entry.model.close()

    def _place(self, attempt: int) -> tuple[int, int]:
        """Which entry an attempt asks, and how often that one has failed before."""
        for position, entry in enumerate(self.entries):
            if attempt <= entry.max_retries:
                return position, attempt
            attempt -= entry.max_retries + 1
        return len(self.entries) - 1, self.entries[-1].max_retries + attempt

    def _later(self, error: Exception, entry: ModelEntry, tries: int) -> ModelUnavailableError:
        if isinstance(error, ModelUnavailableError) and error.asked_for:
            return error
        code = error.code if isinstance(error, ModelCallError) else "error"
        status = error.status if isinstance(error, ModelCallError) else None
        text = str(error) if isinstance(error, ModelCallError) else f"{entry.model.name}: {_told(error)}"
        # With the next model there is nothing to wait for: it has not failed yet.
        last = tries >= entry.max_retries and entry is not self.entries[-1]
        delay = 0.0 if last else self._delay(tries)
        return ModelUnavailableError(text, delay, code=code, model=entry.model.name, status=status)

    def _delay(self, tries: int) -> float:
        # Half of it is chance, so that what failed together does not come back together.
        return min(FIRST_DELAY * 2.0 ** min(tries, 16), LONGEST_DELAY) * (0.5 + self._chance() / 2)


async def ask_model(models: Models, prompt: Prompt, call: Call) -> Answer:
    """`models.ask`, as a function."""
    return await models.ask(prompt, call)


class _Heard:
    """Passes chunks on, and knows whether there were any."""

    def __init__(self, say: Callable[[Chunk], None]) -> None:
        self._say = say
        self.anything = False

    def __call__(self, chunk: Chunk) -> None:
        self.anything = True
        self._say(chunk)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

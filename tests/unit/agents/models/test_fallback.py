"""Fallbacks: which model an attempt asks, and what a failure means for the next attempt."""

from __future__ import annotations

import pytest

from perdure.agents.chunks import Chunk
from perdure.agents.messages import Message, TextPart
from perdure.agents.models import Answer, Call, ModelEntry, ModelRejectedError, Models, ModelUnavailableError, Prompt
from perdure.model.errors import NonRetriableError, RetryAfterError
from perdure.testing.models import ScriptedModel
from perdure.testing.script import Break, Fail, Turn

HELLO = Prompt([], [Message("m1", "user", [TextPart("Hello")], 0)])


def entry(name: str, *turns: Turn, retries: int = 0) -> ModelEntry:
    return ModelEntry(ScriptedModel(list(turns), name=f"test/{name}"), retries, name)


async def attempt(models: Models, number: int, said: list[Chunk] | None = None) -> Answer:
    heard = said if said is not None else []
    return await models.ask(HELLO, Call("run-1", heard.append, attempt=number))


async def test_each_entry_has_its_own_attempts() -> None:
    models = Models(
        [entry("a", Fail(), Fail(), retries=1), entry("b", Fail()), entry("c", "at last", retries=2)],
        chance=lambda: 0.0,
    )
    assert models.retries == 5
    delays = []
    for number in range(3):
        with pytest.raises(ModelUnavailableError) as caught:
            await attempt(models, number)
        delays.append((caught.value.model, caught.value.retry_after))
    # Nobody waits for a model that has not failed yet.
    assert delays == [("test/a", 0.5), ("test/a", 0.0), ("test/b", 0.0)]
    assert (await attempt(models, 3)).text == "at last"


async def test_pauses_double_and_have_a_bound() -> None:
    model = ScriptedModel(lambda asked: Fail())
    models = Models([ModelEntry(model, 20, "a")], chance=lambda: 1.0)
    pauses = []
    for number in range(7):
        with pytest.raises(RetryAfterError) as caught:
            await attempt(models, number)
        pauses.append(caught.value.retry_after)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]


async def test_what_the_provider_asks_for_is_honoured() -> None:
    models = Models([entry("a", Fail("slow down", 429, retry_after=42.0))])
    with pytest.raises(ModelUnavailableError) as caught:
        await attempt(models, 0)
    assert (caught.value.retry_after, caught.value.code, caught.value.status) == (42.0, "rate_limited", 429)


async def test_a_refusal_goes_to_the_next_model_at_once() -> None:
    models = Models([entry("a", Fail("bad key", 401), retries=5), entry("b", "from b")])
    answer = await attempt(models, 0)
    assert (answer.text, answer.model) == ("from b", "b")


async def test_a_refusal_by_the_last_one_is_final() -> None:
    with pytest.raises(NonRetriableError) as caught:
        await attempt(Models([entry("a", Fail("too long", 400), retries=5)]), 0)
    assert isinstance(caught.value, ModelRejectedError) and caught.value.status == 400


async def test_after_words_the_attempt_ends_so_that_they_can_be_taken_back() -> None:
    models = Models([entry("a", ["partial", Fail("broke", 400)]), entry("b", "whole")])
    said: list[Chunk] = []
    with pytest.raises(ModelUnavailableError):
        await attempt(models, 0, said)
    assert [chunk.payload["text"] for chunk in said if chunk.type == "text-delta"] == ["partial"]
    assert (await attempt(models, 1)).text == "whole"


async def test_a_connection_that_breaks_may_be_tried_again() -> None:
    models = Models([entry("a", ["partial", Break()], "whole", retries=1)])
    with pytest.raises(ModelUnavailableError) as caught:
        await attempt(models, 0)
    assert caught.value.code == "connection"
    assert (await attempt(models, 1)).text == "whole"


async def test_any_other_error_may_be_tried_again_and_keeps_its_cause() -> None:
    class Odd:
        name = "odd/one"

        async def ask(self, prompt: Prompt, call: Call) -> Answer:
            raise KeyError("where")

        async def close(self) -> None: ...

    with pytest.raises(ModelUnavailableError) as caught:
        await attempt(Models([ModelEntry(Odd(), 0, "odd")]), 0)
    assert "odd/one: KeyError: 'where'" in str(caught.value)
    assert isinstance(caught.value.__cause__, KeyError)


async def test_attempts_past_the_list_ask_the_last_one() -> None:
    assert (await attempt(Models([entry("a", Fail()), entry("b", "still here")]), 9)).text == "still here"

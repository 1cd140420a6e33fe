"""Steps of an endpoint beside each other, of which one fails while the first request is answered."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request

from perdure import App, step
from perdure.model.json import Json
from tests.wire.test_endpoints_embedded import hosted


@pytest.mark.parametrize("fails", ["first", "last", "both"])
async def test_only_what_failed_is_tried_again(fails: str) -> None:
    app, tries = App("beside"), {"a": 0, "b": 0}
    failed = asyncio.Event()

    async def attempt(name: str) -> str:
        tries[name] += 1
        mine = fails == "both" or (fails == "first") == (name == "a")
        if tries[name] == 1 and mine:
            failed.set()
            raise RuntimeError("not yet")
        if fails == "last":
            return name
        # The sound one ends after the other has failed.
        await failed.wait()
        return name

    @app.endpoint()
    async def endpoint(request: Request) -> Json:
        both = await asyncio.gather(step.run("a", attempt, "a"), step.run("b", attempt, "b"))
        return {"both": both}

    async with hosted(app, endpoint) as (http, _):
        answer = await http.get("/x")
    assert (answer.status_code, answer.json()) == (200, {"both": ["a", "b"]})
    assert tries == {"a": 1 + (fails != "last"), "b": 1 + (fails != "first")}

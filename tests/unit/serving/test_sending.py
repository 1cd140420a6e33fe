"""Where `app.send` goes: to the engine that runs the app, else to the server that it is served to."""

from __future__ import annotations

import pytest

from perdure import App, PerdureError, embedded, serve
from perdure.serving.threads import background_loop


async def test_an_engine_of_this_process_comes_before_the_server() -> None:
    app = App("shop")
    # Nothing listens there.
    serve(app, is_dev=True, base_url="http://127.0.0.1:9")
    async with embedded(app, db=":memory:"):
        assert len(await app.send({"name": "t/one"})) == 1
    with pytest.raises(PerdureError, match=r"no answer from the server at http://127\.0\.0\.1:9"):
        await app.send({"name": "t/one"})


async def test_threads_send_in_the_loop_that_is_there() -> None:
    app = App("shop")
    with pytest.raises(PerdureError, match="runs nowhere"):
        _ = app.sender_loop
    serve(app, is_dev=True)
    assert app.sender_loop is background_loop()
    async with embedded(app, db=":memory:"):
        assert app.sender_loop is not background_loop()


async def test_production_without_an_event_key_says_so() -> None:
    app = App("shop")
    serve(app, signing_key="00ff", is_dev=False)
    with pytest.raises(PerdureError, match="event_key: is required for sending events"):
        await app.send({"name": "t/one"})

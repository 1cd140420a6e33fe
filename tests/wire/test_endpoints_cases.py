"""Endpoints from their callers' side: the same handlers with an engine in the process, and with a server elsewhere.

The cases are those of the protocol's table that an app in Python can meet. Every case is a path of one site, and what
is done is noted by the `key` of the query.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

import perdure
from perdure import App, Context, Node, NonRetriableError, RetryAfterError, StepError, step, stream
from perdure.client import Commit, Data, Rollback, fetch_with_stream
from perdure.model.ids import step_hash
from perdure.model.json import Json
from perdure.serving import use_server
from tests.support.endpoint_server import until
from tests.support.hosting import asgi_server

Handler = Callable[[Request], Awaitable[Json]]
_keys = itertools.count(1)


class Site:
    """An app, where it is served, and who records its runs."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, str]] = []
        self.url = ""
        self.api = ""
        self.node: Node | None = None

    def note(self, request: Request, what: str) -> int:
        """Notes what is done; how often it was done before."""
        key = request.query_params["key"]
        self.noted.append((key, what))
        return self.noted.count((key, what)) - 1

    def done(self, key: str) -> Counter[str]:
        return Counter(what for whose, what in self.noted if whose == key)

    @property
    def engine(self) -> Node:
        assert self.node is not None
        return self.node


def helper() -> App:
    """Functions that endpoints invoke."""
    app = App("helper")

    @app.function("double", trigger="t/double")
    async def double(ctx: Context) -> int:
        return 2 * int(ctx.event.data["n"])

    return app


def handlers(site: Site) -> dict[str, tuple[Handler, dict[str, Json]]]:
    """The endpoints: path to handler and options."""

    def failing(request: Request, what: str, times: int, error: Callable[[], Exception]) -> str:
        if site.note(request, what) < times:
            raise error()
        return what

    def boom() -> Exception:
        return ValueError("boom")

    async def waits(request: Request) -> Json:
        key = request.query_params["key"]
        timeout = request.query_params.get("timeout", "20s")
        found = await step.wait_for_event("wait", event="t/go", timeout=timeout, if_=f'async.data.id == "{key}"')
        return None if found is None else found.data

    async def signals(request: Request) -> Json:
        return await step.wait_for_signal("signal", signal=request.query_params["key"], timeout="50ms")

    async def invokes(request: Request) -> Json:
        return await step.invoke("call", "helper-double", data={"n": 21})

    async def parallel(request: Request) -> Json:
        found = await asyncio.gather(*(step.run(name, site.note, request, name) for name in ("a", "b")))
        return [*found, await step.run("after", site.note, request, "after")]

    async def mixed(request: Request) -> Json:
        found = await asyncio.gather(
            step.run("a", site.note, request, "a"),
            step.sleep("nap", "50ms"),
            step.wait_for_event("wait", event="t/never", timeout="80ms"),
        )
        return [*found, await step.run("after", site.note, request, "after")]

    async def race(request: Request) -> Json:
        tasks = [asyncio.ensure_future(step.sleep("long", "1h")), asyncio.ensure_future(step.sleep("short", "30ms"))]
        done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        return [tasks[1] in done, await step.run("after", site.note, request, "after")]

    async def one_fails(request: Request) -> Json:
        return await asyncio.gather(
            step.run("a", site.note, request, "a"), step.run("b", failing, request, "b", 1, boom)
        )

    async def once(request: Request) -> Json:
        return await step.run("a", failing, request, "a", 1, boom)

    async def caught(request: Request) -> Json:
        try:
            await step.run("a", failing, request, "a", 99, boom)
        except StepError as error:
            return JSONResponse({"caught": error.message}, 500)

    async def uncaught(request: Request) -> Json:
        await step.run("a", failing, request, "a", 99, boom)

    async def final(request: Request) -> Json:
        try:
            await step.run("a", failing, request, "a", 99, lambda: NonRetriableError("never"))
        except StepError as error:
            return error.message

    async def later(request: Request) -> Json:
        await step.run("before", site.note, request, "before")
        if "async" in request.query_params:
            await step.sleep("nap", "20ms")
        return await step.run("a", failing, request, "a", 1, lambda: RetryAfterError("not yet", 1))

    async def throws(request: Request) -> Json:
        await step.run("a", site.note, request, "a")
        return failing(request, "throw", int(request.query_params["times"]), boom)

    async def throws_for_good(request: Request) -> Json:
        await step.run("a", site.note, request, "a")
        raise NonRetriableError("no")

    async def large(request: Request) -> Json:
        await step.run("a", site.note, request, "a")
        if "async" in request.query_params:
            await step.sleep("nap", "20ms")
        try:
            await step.run("large", lambda: (site.note(request, "large"), "x" * 5_000_000)[1])
        except StepError as error:
            return error.name

    async def naps(request: Request) -> Json:
        await step.sleep("nap", request.query_params.get("span", "30ms"))
        return request.query_params["key"]

    async def talks(request: Request) -> Json:
        def say(what: str) -> None:
            tries = site.note(request, what)
            stream.push(f"{what}{tries}")
            if tries < int(request.query_params.get("fails", "0")):
                raise ValueError("boom")

        await step.run("a", say, "a")
        for n in range(int(request.query_params.get("naps", "1"))):
            await step.sleep(f"nap {n}", "30ms")
            await asyncio.gather(step.run(f"b{n}", say, f"b{n}"), step.run(f"c{n}", say, f"c{n}"))
        return "done"

    return {
        "/waits": (waits, {}), "/signals": (signals, {}), "/invokes": (invokes, {}), "/parallel": (parallel, {}),
        "/mixed": (mixed, {}), "/race": (race, {}), "/one-fails": (one_fails, {}), "/once": (once, {}),
        "/caught": (caught, {"retries": 2}), "/uncaught": (uncaught, {"retries": 2}),
        "/retries-0": (caught, {"retries": 0}), "/retries-1": (caught, {"retries": 1}), "/final": (final, {}),
        "/later": (later, {}), "/throws": (throws, {"retries": 2}), "/throws-for-good": (throws_for_good, {}),
        "/large": (large, {}), "/naps": (naps, {}), "/named": (naps, {"function_id": "my-fn-id"}),
        "/talks": (talks, {"retries": 2}),
    }  # fmt: skip


@asynccontextmanager
async def hosted(kind: str) -> AsyncGenerator[Site, None]:
    site, app = Site(), App("cases")
    routes = [
        Route(path, app.endpoint(**options)(handler), methods=["GET", "POST"])
        for path, (handler, options) in handlers(site).items()
    ]
    async with AsyncExitStack() as stack:
        served = [helper(), app] if kind == "embedded" else [helper()]
        site.node = await stack.enter_async_context(
            perdure.embedded(served, db=":memory:", retry_interval=20, shutdown_timeout=0.1)
        )
        engine = Mount("/engine", site.node.asgi())
        address = ""
        if kind == "remote":
            address = await stack.enter_async_context(asgi_server(Starlette(routes=[engine])))
            use_server(app, base_url=f"{address}/engine", is_dev=True)
        site.url = await stack.enter_async_context(asgi_server(Starlette(routes=[*routes, engine])))
        site.api = f"{address or site.url}/engine"
        yield site


@pytest.fixture(params=["embedded", "remote"])
async def site(request: pytest.FixtureRequest) -> AsyncGenerator[Site, None]:
    async with hosted(request.param) as started:
        yield started


class Called(httpx2.AsyncClient):
    """A client with a key of its own."""

    def __init__(self, site: Site) -> None:
        super().__init__(base_url=site.url, follow_redirects=True, timeout=20)
        self.key = f"k{next(_keys)}"

    async def ask(self, path: str, **query: Json) -> httpx2.Response:
        return await self.get(path, params={"key": self.key, **query})


@pytest.fixture
async def http(site: Site) -> AsyncGenerator[Called, None]:
    async with Called(site) as client:
        yield client


# Waits.


async def test_a_wait_is_woken_by_the_event_that_is_for_it(site: Site, http: Called) -> None:
    async with Called(site) as other:
        asked, unasked = (asyncio.ensure_future(each.ask("/waits")) for each in (http, other))
        await site.engine.settle()
        while not asked.done():
            await site.engine.send([{"name": "t/go", "data": {"id": http.key, "n": 1}}])
            await asyncio.sleep(0.05)
        assert (await asked).json() == {"id": http.key, "n": 1}
        assert not unasked.done()
        unasked.cancel()
        await asyncio.gather(unasked, return_exceptions=True)


async def test_waits_that_nothing_ends_give_nothing(http: Called) -> None:
    answers = [await http.ask("/waits", timeout="50ms"), await http.ask("/signals")]
    assert [(answer.status_code, answer.json(), len(answer.history)) for answer in answers] == [(200, None, 1)] * 2


async def test_a_function_is_invoked(http: Called) -> None:
    assert (await http.ask("/invokes")).json() == 42


async def test_an_answer_may_be_fetched_again_and_before_and_after_the_end(site: Site, http: Called) -> None:
    led = await http.get("/naps", params={"key": http.key}, follow_redirects=False)
    assert led.status_code == 302
    answers = await asyncio.gather(*(http.get(led.headers["location"]) for _ in range(3)))
    answers.append(await http.get(led.headers["location"]))
    assert {answer.text for answer in answers} == {f'"{http.key}"'}


async def test_a_name_is_the_run_s_and_not_the_path_s(site: Site, http: Called) -> None:
    assert (await http.ask("/named")).json() == http.key
    assert [name for name in site.engine.catalogue.functions if name.endswith("-my-fn-id")]


async def test_a_cancelled_run_has_an_answer(site: Site, http: Called) -> None:
    led = await http.get("/naps", params={"key": http.key, "span": "1h"}, follow_redirects=False)
    asked = asyncio.ensure_future(http.get(led.headers["location"]))
    runs = (await http.get(f"{site.api}/v1/runs")).json()["data"]
    await site.engine.cancel(runs[0]["run_id"])
    answer = await asked
    assert answer.status_code == 410 and answer.json()["error"]["name"] == "RunCancelled"


# Steps beside each other.


async def test_steps_beside_each_other_need_no_second_request(site: Site, http: Called) -> None:
    answer = await http.ask("/parallel")
    assert (answer.json(), answer.history) == ([0, 0, 0], [])
    assert site.done(http.key) == {"a": 1, "b": 1, "after": 1}


@pytest.mark.parametrize(("path", "body"), [("/mixed", [0, None, None, 0]), ("/race", [True, 0])])
async def test_what_follows_steps_beside_each_other_is_done_once(
    site: Site, http: Called, path: str, body: Json
) -> None:
    answer = await http.ask(path)
    assert answer.json() == body
    assert set(site.done(http.key).values()) == {1}


async def test_only_the_step_that_failed_is_done_again(site: Site, http: Called) -> None:
    assert (await http.ask("/one-fails")).json() == [0, "b"]
    assert site.done(http.key) == {"a": 1, "b": 2}


# Failures.


async def test_a_step_that_failed_is_tried_again(site: Site, http: Called) -> None:
    answer = await http.ask("/once")
    assert (answer.json(), len(answer.history)) == ("a", 1)
    assert site.done(http.key) == {"a": 2}


@pytest.mark.parametrize(("path", "tries"), [("/caught", 3), ("/retries-0", 1), ("/retries-1", 2)])
async def test_when_attempts_are_used_up_the_handler_may_answer(
    site: Site, http: Called, path: str, tries: int
) -> None:
    answer = await http.ask(path)
    assert (answer.status_code, answer.json()) == (500, {"caught": "boom"})
    assert site.done(http.key) == {"a": tries}


async def test_a_failure_that_nobody_catches_is_told(site: Site, http: Called) -> None:
    answer = await http.ask("/uncaught")
    assert answer.status_code == 500 and answer.json()["error"]["message"].endswith("boom")
    assert "stack" not in answer.text and site.done(http.key) == {"a": 3}


async def test_a_step_that_must_not_be_tried_again(site: Site, http: Called) -> None:
    answer = await http.ask("/final")
    assert (answer.status_code, answer.json(), answer.history) == (200, "never", [])
    assert site.done(http.key) == {"a": 1}


@pytest.mark.parametrize("later", [False, True])
async def test_a_step_may_say_when_to_try_again(site: Site, http: Called, later: bool) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    assert (await http.ask("/later", **({"async": "1"} if later else {}))).json() == "a"
    # Without a word it would be tried again at once.
    assert loop.time() - begun > 0.9
    assert site.done(http.key) == {"before": 1, "a": 2}


async def test_a_handler_that_throws_is_called_again(site: Site, http: Called) -> None:
    assert (await http.ask("/throws", times=2)).json() == "throw"
    assert site.done(http.key) == {"a": 1, "throw": 3}


async def test_a_handler_that_always_throws_ends(site: Site, http: Called) -> None:
    answer = await http.ask("/throws", times=99)
    assert answer.status_code == 500 and answer.json()["error"]["message"] == "boom"
    assert site.done(http.key) == {"a": 1, "throw": 3}


async def test_a_handler_that_fails_for_good_ends_its_run(site: Site, http: Called) -> None:
    answer = await http.ask("/throws-for-good")
    assert (answer.status_code, answer.json()["message"], answer.history) == (400, "no", [])
    runs = (await http.get(f"{site.api}/v1/runs")).json()["data"]
    assert [run["status"] for run in runs] == ["Failed"]


@pytest.mark.parametrize("later", [False, True])
async def test_a_step_that_is_too_large_fails_and_is_not_done_again(site: Site, http: Called, later: bool) -> None:
    answer = await http.ask("/large", **({"async": "1"} if later else {}))
    if later:
        # The server finds it too large, and that ends the run.
        assert answer.status_code == 500 and "large" in answer.json()["error"]["message"]
    else:
        assert answer.json() == "StepTooLargeError"
    assert site.done(http.key) == {"a": 1, "large": 1}


# Streams.


class Heard:
    """What a caller hears that counts, and how often something was taken back."""

    def __init__(self) -> None:
        self.kept: list[Json] = []
        self.taken_back = 0
        self._open: dict[str | None, list[Json]] = {}

    async def call(self, site: Site, **query: str) -> Json:
        told = "&".join(f"{name}={value}" for name, value in {"key": f"k{next(_keys)}", **query}.items())
        return await fetch_with_stream(
            f"{site.url}/talks?{told}", on_data=self._data, on_commit=self._commit, on_rollback=self._rollback
        )

    def _data(self, event: Data) -> None:
        self._open.setdefault(event.step, []).append(event.data)

    def _commit(self, event: Commit) -> None:
        self.kept += self._open.pop(event.step, [])

    def _rollback(self, event: Rollback) -> None:
        self._open.pop(event.step, None)
        self.taken_back += 1


@pytest.mark.parametrize("naps", [0, 1, 3])
async def test_a_stream_goes_on_over_every_wait(site: Site, naps: int) -> None:
    heard = Heard()
    answer = await heard.call(site, naps=str(naps))
    assert (answer.status_code, answer.json(), heard.taken_back) == (200, "done", 0)
    wanted = {"a0", *(f"{name}{n}0" for n in range(naps) for name in "bc")}
    assert sorted(heard.kept) == sorted(wanted)


async def test_what_failed_attempts_said_is_taken_back(site: Site) -> None:
    heard = Heard()
    answer = await heard.call(site, fails="1")
    assert (answer.status_code, answer.json()) == (200, "done")
    assert (sorted(heard.kept), heard.taken_back) == (["a1", "b01", "c01"], 3)


async def test_a_stream_of_a_run_that_fails_ends_with_that(site: Site) -> None:
    heard = Heard()
    answer = await heard.call(site, fails="99")
    assert answer.failed and answer.status_code == 500 and "boom" in answer.text
    assert (heard.kept, heard.taken_back) == ([], 3)


async def test_many_callers_at_once_do_not_mix(site: Site) -> None:
    async def one(n: int) -> tuple[Json, list[Json]]:
        heard = Heard()
        answer = await heard.call(site)
        return answer.json(), sorted(heard.kept)

    assert await asyncio.gather(*(one(n) for n in range(25))) == [("done", ["a0", "b00", "c00"])] * 25


async def test_late_listeners_hear_it_all_and_each_the_same(site: Site, http: Called) -> None:
    led = await http.get("/talks", params={"key": http.key}, headers={"accept": "text/event-stream"})
    url = next(line for line in led.text.splitlines() if '"url":' in line).split('"url":"')[1].split('"')[0]
    headers = {"accept": "text/event-stream"}
    live = await asyncio.gather(*(http.get(url, headers=headers) for _ in range(2)))
    late = await http.get(url, headers=headers)
    # Who is there hears of each request that begins to speak, and else it is the same, byte by byte.
    blocks = [answer.text.replace(":\n\n", "").split("\n\n") for answer in (*live, late)]
    texts = {"\n\n".join(part for part in parts if "inngest.metadata" not in part) for parts in blocks}
    assert len(texts) == 1
    (text,) = texts
    assert text.count("inngest.commit") == 2 and text.count("inngest.response") == 1
    resumed = await http.get(url, headers=headers | {"last-event-id": "2"})
    assert text.endswith(resumed.text.split("\n\n", 2)[2]) and "id: 3\n" in resumed.text
    assert step_hash("b0") in text
    await until(lambda: True)

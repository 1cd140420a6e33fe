"""The apps on other servers: what a sync changes, what it leaves, and what is there again after a restart."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from perdure import App, Context
from perdure.engine import intake, reads
from perdure.model.errors import StoreError
from perdure.model.json import Json
from perdure.model.records import AppRow, FunctionRow
from perdure.node import Node
from perdure.testing.factory import EngineFactory
from perdure.wire.registration import Registration, RegistrationError, parse_registration, registration_of
from tests.support.registrations import URL, body, function_object, npm_request


def registration(*functions: dict[str, Json], **members: Json) -> Registration:
    return parse_registration(body(npm_request(*functions, **members)))


async def functions(node: Node) -> dict[str, FunctionRow]:
    return {row.id: row for row in await node.view(reads.functions)}


async def stored(node: Node) -> dict[str, AppRow]:
    return {row.id: row for row in await node.view(reads.apps)}


def callable_(node: Node) -> set[str]:
    return set(node.runner._codes)


async def test_a_sync_puts_functions_in_force(perdure_engine: EngineFactory) -> None:
    node = await perdure_engine([])
    synced = await node.registry.sync(registration(function_object("shop-a"), function_object("shop-b")))
    assert (synced.app_id, synced.modified) == ("shop", True)
    assert set(node.catalogue.functions) == callable_(node) == {"shop-a", "shop-b"}
    assert set(node.catalogue.triggered_by("shop/paid")) == {"shop-a", "shop-b"}
    row = (await stored(node))["shop"]
    assert (row.method, row.url, row.sdk, row.framework) == ("serve", URL, "js:v4.24.0", "nodejs")
    assert (row.sync_id, row.error) == (synced.sync_id, None)


async def test_a_sync_that_says_the_same_changes_nothing(perdure_engine: EngineFactory) -> None:
    node = await perdure_engine([])
    first = await node.registry.sync(registration(function_object("shop-a")))
    again = await node.registry.sync(registration(function_object("shop-a")))
    assert (first.modified, again.modified) == (True, False)
    assert first.sync_id != again.sync_id
    assert (await functions(node))["shop-a"].version == 1


async def test_a_sync_that_the_store_did_not_take_whole_is_done_again(
    perdure_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was blocked has to compete again, or it waits for ever."""
    node = await perdure_engine([])
    decide = node.decider.decide

    async def refuses(make: Json, *given: Json) -> Json:
        if make is intake.unblock:
            raise StoreError("the disk is full")
        return await decide(make, *given)

    monkeypatch.setattr(node.decider, "decide", refuses)
    with pytest.raises(StoreError):
        await node.registry.sync(registration(function_object("shop-a")))
    monkeypatch.undo()
    assert (await node.registry.sync(registration(function_object("shop-a")))).modified


async def test_a_changed_function_has_a_new_version_and_one_that_is_gone_is_archived(
    perdure_engine: EngineFactory,
) -> None:
    node = await perdure_engine([])
    await node.registry.sync(registration(function_object("shop-a"), function_object("shop-b")))
    synced = await node.registry.sync(registration(function_object("shop-a", name="Other")))
    assert synced.modified
    rows = await functions(node)
    assert rows["shop-a"].version == 2
    assert rows["shop-b"].archived_at is not None
    assert set(node.catalogue.functions) == callable_(node) == {"shop-a"}
    # It comes back as it was, a version later.
    await node.registry.sync(registration(function_object("shop-a"), function_object("shop-b")))
    assert (await functions(node))["shop-b"].archived_at is None
    assert "shop-b" in callable_(node)


async def test_after_a_restart_functions_are_in_force_without_a_sync(
    perdure_engine: EngineFactory, tmp_path: Path
) -> None:
    node = await perdure_engine([], db=tmp_path / "db")
    crons: Json = [{"cron": "0 9 * * *"}]
    given = registration(function_object("shop-a"), function_object("shop-b", triggers=crons))
    await node.registry.sync(given)
    before = await node.view(lambda: reads.cron_jobs("shop-b"))
    await node.stop()
    node = await perdure_engine([], db=tmp_path / "db")
    assert set(node.catalogue.functions) == callable_(node) == {"shop-a", "shop-b"}
    assert await node.view(lambda: reads.cron_jobs("shop-b")) == before != []
    assert [row.id for row in node.registry.apps()] == ["shop"]
    assert not (await node.registry.sync(given)).modified


async def test_a_worker_that_connects_registers_its_app(perdure_engine: EngineFactory) -> None:
    node = await perdure_engine([])
    runtime = {"type": "ws", "url": "wss://connect/?fnId=shop-a&stepId=step"}
    given = registration_of("shop", [function_object("shop-a", steps={"step": {"runtime": runtime}})], sdk="js:v4.24.0")
    assert (await node.registry.sync(given, method="connect")).modified
    assert (await stored(node))["shop"].method == "connect"
    # Its runs wait for a worker that is ready, without using up an attempt.
    assert (set(node.catalogue.functions), callable_(node)) == ({"shop-a"}, set())
    assert not (await node.registry.sync(given, method="connect")).modified
    # Served instead, it is called elsewhere.
    assert (await node.registry.sync(registration(function_object("shop-a")))).modified
    assert callable_(node) == {"shop-a"}
    assert (await node.registry.sync(given, method="connect")).modified
    assert callable_(node) == set()


async def test_what_only_the_server_finds_wrong_is_told_with_function_and_field(perdure_engine: EngineFactory) -> None:
    node = await perdure_engine([])
    bad = (
        function_object("shop-a", triggers=[{"event": "x", "expression": "event.data.n >"}, {"cron": "61 * * * *"}]),
        function_object("shop-b", batchEvents={"maxSize": 2, "timeout": "5s"}, cancel=[{"event": "x"}]),
        function_object("shop-c", cancel=[{"event": "x", "if": "event.data.id ="}]),
        function_object("shop-d"),
    )
    with pytest.raises(RegistrationError) as caught:
        await node.registry.sync(registration(*bad))
    assert caught.value.error == "At least one function is invalid"
    assert [each.split(": ")[:2] for each in caught.value.details] == [
        ["function shop-a", "triggers[0].expression"],
        ["function shop-a", "triggers[1].cron"],
        ["function shop-b", "batchEvents"],
        ["function shop-c", "cancel[0].if"],
    ]
    assert node.catalogue.functions == {}
    assert await stored(node) == {}


async def test_an_app_of_this_process_is_not_overwritten(perdure_engine: EngineFactory) -> None:
    app = App("shop")

    @app.function("a", trigger="shop/paid")
    async def a(ctx: Context) -> None: ...

    node = await perdure_engine(app)
    with pytest.raises(RegistrationError, match="app shop: runs in the server's process"):
        await node.registry.sync(registration(function_object("shop-a")))
    with pytest.raises(RegistrationError, match="function shop-a: id: is that of a function of the app shop"):
        await node.registry.sync(registration(function_object("shop-a"), app="store"))


async def test_an_app_of_this_process_takes_over(perdure_engine: EngineFactory, tmp_path: Path) -> None:
    node = await perdure_engine([], db=tmp_path / "db")
    await node.registry.sync(registration(function_object("shop-a"), function_object("shop-b")))
    await node.stop()
    app = App("shop")

    @app.function("a", trigger="shop/paid")
    async def a(ctx: Context) -> None: ...

    node = await perdure_engine(app, db=tmp_path / "db")
    assert (node.registry.apps(), await stored(node)) == ([], {})
    assert set(node.catalogue.functions) == callable_(node) == {"shop-a"}
    assert node.catalogue.functions["shop-a"].config.url is None
    await node.stop()
    # And back again.
    node = await perdure_engine([], db=tmp_path / "db")
    assert (await node.registry.sync(registration(function_object("shop-a")))).modified
    assert callable_(node) == {"shop-a"}


async def test_a_vulnerable_sdk_is_warned_of_or_turned_away(
    perdure_engine: EngineFactory, caplog: pytest.LogCaptureFixture
) -> None:
    node = await perdure_engine([])
    old = registration(function_object("shop-a"), sdk="js:v3.40.0")
    with caplog.at_level(logging.WARNING):
        assert (await node.registry.sync(old)).modified
    assert "CVE-2026-42047: install inngest 3.54.0 or newer" in caplog.text
    node.registry.deny_vulnerable = True
    with pytest.raises(RegistrationError) as caught:
        await node.registry.sync(registration(function_object("shop-b"), sdk="js:v3.40.0"))
    assert caught.value.body()["code"] == "sdk_version_denied"
    assert "CVE-2026-42047" in caught.value.error


@pytest.mark.parametrize("name", ["shop", URL, "http://localhost:3000/api/inngest/"])
async def test_a_removed_app_leaves_nothing_in_force(perdure_engine: EngineFactory, name: str) -> None:
    node = await perdure_engine([])
    given = registration(function_object("shop-a"))
    await node.registry.sync(given)
    assert await node.registry.remove(name)
    assert not await node.registry.remove(name)
    assert (await stored(node), node.catalogue.functions, callable_(node)) == ({}, {}, set())
    assert (await functions(node))["shop-a"].archived_at is not None
    # It registers again with its next sync.
    assert (await node.registry.sync(given)).modified
    assert callable_(node) == {"shop-a"}


async def test_errors_of_syncs_are_kept_and_told_once(
    perdure_engine: EngineFactory, caplog: pytest.LogCaptureFixture
) -> None:
    node = await perdure_engine([])
    given = registration(function_object("shop-a"))
    await node.registry.sync(given)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            await node.registry.failed("shop", "unreachable", "it cannot be reached")
        row = (await stored(node))["shop"]
        assert (row.error, row.message) == ("unreachable", "it cannot be reached")
        assert not (await node.registry.sync(given)).modified
    assert (await stored(node))["shop"].error is None
    assert [record.message for record in caplog.records] == [
        "app shop: it cannot be reached",
        f"app shop is back, at {URL}",
    ]


async def test_a_refused_registration_is_noted_on_the_app(perdure_engine: EngineFactory) -> None:
    node = await perdure_engine([])
    await node.registry.sync(registration(function_object("shop-a")))
    with pytest.raises(RegistrationError) as caught:
        registration(function_object("shop-a", debounce={"period": 5}))
    await node.registry.refused(caught.value)
    row = (await stored(node))["shop"]
    assert row.error == "invalid_function"
    assert row.message is not None
    assert "function shop-a: debounce.period" in row.message
    # What was in force stays in force.
    assert set(node.catalogue.functions) == {"shop-a"}


async def test_functions_whose_ids_have_colons_keep_their_schedules(perdure_engine: EngineFactory) -> None:
    node = await perdure_engine([])
    crons: Json = [{"cron": "0 9 * * *"}]
    names = ("shop-a:b", "shop-a")
    await node.registry.sync(registration(*(function_object(name, triggers=crons) for name in names)))
    await node.registry.sync(
        registration(function_object("shop-a:b", triggers=crons), function_object("shop-a", triggers=[]))
    )
    assert len(await node.view(lambda: reads.cron_jobs("shop-a:b"))) == 1
    assert await node.view(lambda: reads.cron_jobs("shop-a")) == []


async def test_an_awaited_url_is_shown_until_its_app_is_there(perdure_engine: EngineFactory) -> None:
    node = await perdure_engine([])
    assert node.registry.add(URL) is node.registry.add("http://localhost:3000/api/inngest")
    await node.registry.failed(URL, "unreachable", "it cannot be reached")
    assert [(row.id, row.error) for row in node.registry.apps()] == [(URL, "unreachable")]
    assert await stored(node) == {}
    node.registry.arrived(URL)
    assert node.registry.apps() == []


async def test_an_app_takes_the_place_of_another_at_its_url(perdure_engine: EngineFactory) -> None:
    node = await perdure_engine([])
    await node.registry.sync(registration(function_object("before-a"), app="before"))
    await node.registry.sync(registration(function_object("elsewhere-a"), app="elsewhere", url=f"{URL}/elsewhere"))
    await node.registry.sync(registration(function_object("after-a"), app="after"))
    assert set(node.catalogue.functions) == callable_(node) == {"after-a", "elsewhere-a"}
    assert set(await stored(node)) == {"after", "elsewhere"}

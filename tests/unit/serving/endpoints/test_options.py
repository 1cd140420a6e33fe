"""The options of `@app.endpoint`, and what may be decorated."""

from __future__ import annotations

import pytest

from perdure import App, ConfigError
from perdure.model.json import Json
from perdure.sdk.endpoint import configure


async def handler(request: Json) -> Json:
    return None


def faults(**options: object) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        configure("order", options)
    return raised.value.problems


def test_defaults() -> None:
    config = App("shop").endpoint()(handler).config
    assert (config.retries, config.async_response, config.timeout, config.function_id) == (3, "redirect", 900_000, "")


@pytest.mark.parametrize("retries", [21, -1, "3", True, 1.0, None])
def test_retries_are_from_0_to_20(retries: Json) -> None:
    assert faults(retries=retries) == [f"retries: must be a whole number from 0 to 20, got {retries!r}"]


def test_every_fault_is_told_at_once() -> None:
    found = faults(
        function_id="", async_response="later", async_redirect_url="wait", capture_headers=["a b", "X-Run-Id"],
        timeout="soon", max_body=-1, expose_errors="yes", retry=1,
    )  # fmt: skip
    assert [fault.partition(":")[0] for fault in found] == [
        "retry", "function_id", "async_response", "async_redirect_url", "capture_headers", "capture_headers", "timeout",
        "max_body", "expose_errors",
    ]  # fmt: skip


def test_what_gives_urls_must_take_run_and_token() -> None:
    (fault,) = faults(async_redirect_url=lambda run_id: run_id)
    assert "must take run_id and token" in fault
    assert configure("order", {"stream_url": lambda run_id, token: ""}).stream_url is not None


@pytest.mark.parametrize("timeout", [0, -1, "0s"])
def test_a_timeout_is_more_than_nothing(timeout: Json) -> None:
    assert faults(timeout=timeout) == [f"timeout: must be more than 0, got {timeout!r}"]


def test_only_functions_that_return_are_handlers() -> None:
    async def streams(request: Json) -> Json:
        yield 1

    for wrong, word in ((streams, "generator"), (App, "function"), (3, "function")):
        given: Json = wrong
        with pytest.raises(ConfigError, match=word):
            App("shop").endpoint()(given)


def test_other_options_leave_the_endpoint_as_it_is() -> None:
    endpoint = App("shop").endpoint(retries=5, timeout="1m", function_id="order")(handler)
    other = endpoint.with_options(retries=1)
    assert (endpoint.config.retries, other.config.retries) == (5, 1)
    assert (other.config.timeout, other.config.function_id, other.handler) == (60_000, "order", handler)
    with pytest.raises(ConfigError):
        endpoint.with_options(retries=99)

"""When to try again, and when to give up."""

from __future__ import annotations

from perdure.client.backoff import Backoff


def test_pauses_grow_up_to_five_seconds() -> None:
    backoff = Backoff(1000, lambda: 1.0)
    pauses = [backoff.failed(float(now)) for now in range(9)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_half_of_a_pause_is_chance() -> None:
    assert Backoff(1000, lambda: 0.0).failed(0.0) == 0.05


def test_it_gives_up_after_a_time_without_success() -> None:
    backoff = Backoff(10, lambda: 1.0)
    assert [backoff.failed(5.0), backoff.failed(14.0), backoff.failed(15.0)] == [0.1, 0.2, None]


def test_a_success_begins_anew() -> None:
    backoff = Backoff(10, lambda: 1.0)
    backoff.failed(0.0)
    backoff.succeeded()
    assert backoff.failed(100.0) == 0.1


def test_no_patience_tries_nothing_again() -> None:
    assert Backoff(0, lambda: 1.0).failed(0.0) is None


def test_a_wish_of_the_server_is_met_within_bounds() -> None:
    backoff = Backoff(100, lambda: 1.0)
    assert [backoff.failed(0.0, 2.0), backoff.failed(0.0, 1e9)] == [2.0, 5.0]

"""Signals: messages that reach a thread from outside, whether a run is active there or not, and who follows it."""

from __future__ import annotations

from perdure.agents.signals.following import Subscription
from perdure.agents.signals.sending import Accepted, RunPort, Signals
from perdure.agents.signals.signal import (
    Signal,
    as_prompt,
    parse_message,
    parse_signal,
    render,
    signal_chunk,
    signal_message,
    signal_of,
)

__all__ = [
    "Accepted",
    "RunPort",
    "Signal",
    "Signals",
    "Subscription",
    "as_prompt",
    "parse_message",
    "parse_signal",
    "render",
    "signal_chunk",
    "signal_message",
    "signal_of",
]

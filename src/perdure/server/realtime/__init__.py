"""Realtime (part E.5): tokens for subscribers, subscribing over a WebSocket or an event stream, and publishing."""

from __future__ import annotations

from perdure.server.realtime.routes import routes
from perdure.server.realtime.token import issue_token, read_token

__all__ = ["issue_token", "read_token", "routes"]

"""Durable Endpoints on the side of the app: requests that `@app.endpoint` answers, and how their runs are recorded.

`links` says who records them, `first` and `later` drive the handler, `answers` tells callers what came of it.
Importing this package is what makes `@app.endpoint` work.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from perdure.model.ids import UlidFactory
from perdure.sdk.endpoint import Endpoint, Invocation, Owner, install
from perdure.serving.asgi import wall_clock
from perdure.serving.endpoints.links import use_server

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["use_server"]


class _Door:
    """See `perdure.sdk.endpoint.Door`. What needs Starlette is imported by the first request."""

    def __init__(self) -> None:
        self._ids = UlidFactory(wall_clock, os.urandom)

    def answer(self, endpoint: Endpoint, invocation: Invocation | None) -> ASGIApp:
        from perdure.serving.endpoints.answers import EndpointAnswer

        return EndpointAnswer(endpoint, invocation, wall_clock, self._ids)

    def proxy(self, app: Owner, *, allow_origin: str | None) -> ASGIApp:
        from perdure.serving.endpoints import outputs

        return outputs.proxy(app, allow_origin)


install(_Door())

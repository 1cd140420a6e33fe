"""The server: the doors by which events come in and answers go out, as one ASGI application.

It decides nothing and keeps nothing: every request becomes a question or an order to a `Backend` (a node). What
it owns is the wire: shapes, status codes, limits on bodies, and the error envelope of each API.
"""

from __future__ import annotations

from perdure.server.app import make_app
from perdure.server.auth import Guard
from perdure.server.backend import Backend

__all__ = ["Backend", "Guard", "make_app"]

"""What goes wrong between a client and a server."""

from __future__ import annotations

from perdure.model.errors import PerdureError


class ServerUnreachableError(PerdureError):
    """No server answers at the address; the message says how to start one."""

    def __init__(self, base_url: str, reason: str) -> None:
        self.base_url = base_url
        super().__init__(
            f"no perdure server answers at {base_url} ({reason}). "
            "Start one with `perdure dev module:app`, or name another address."
        )


class ApiError(PerdureError):
    """The server refused a request: `status` is the HTTP status, `message` its reason."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(f"{message} (HTTP {status})")

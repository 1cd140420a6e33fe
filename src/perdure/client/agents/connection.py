"""What the clients of agents need of a client: to ask, and to hear a stream. `AgentsApi` is given one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Protocol

from perdure.model.json import Json


class Connection(Protocol):
    """A connection to a server. Raises `ServerUnreachableError`, `ApiError`, `StreamError`."""

    async def ask(
        self,
        method: str,
        path: str,
        body: Json = None,
        *,
        query: Mapping[str, Json] | None = None,
        patient: bool = False,
    ) -> Json:
        """One request; `patient`: it takes as long as it takes."""
        ...

    def frames(
        self, method: str, path: str, body: Json = None, *, query: Mapping[str, Json] | None = None, after: str = ""
    ) -> AsyncGenerator[tuple[str | None, Json]]:
        """The frames of a stream, each with its id; `after`: the id of the last one that is known already."""
        ...

"""The operation catalogue: each operation of the HTTP API described once.

The routes of v1 and v2 are built from it, and `GET /v2/operations`, `GET /openapi.json`, the command `perdure api`
and the tools for agents tell it. `V2` lives below `/v2` and `/api/v2`; the paths of `V1` and `PROTOCOL` are whole.
`PROTOCOL` describes what SDKs call and other modules serve; `AGENTS` what `server/agents` serves.
"""

from __future__ import annotations

from perdure.server.catalogue.agent_records import KEEPING
from perdure.server.catalogue.agents import RUNNING
from perdure.server.catalogue.operation import (
    Argument,
    Operation,
    Request,
    arguments,
    hints,
    request_for,
    tool_schema,
)
from perdure.server.catalogue.protocol import PROTOCOL
from perdure.server.catalogue.v1 import V1
from perdure.server.catalogue.v2 import V2

AGENTS = (*RUNNING, *KEEPING)

__all__ = [
    "AGENTS",
    "PROTOCOL",
    "V1",
    "V2",
    "Argument",
    "Operation",
    "Request",
    "arguments",
    "hints",
    "request_for",
    "tool_schema",
]

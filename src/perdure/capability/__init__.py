"""Capabilities: documents that describe an API to agents, read, checked, and served as REST and MCP.

A document (`naftiko:` or `ikanos:`) says which HTTP operations it consumes, and under which routes, tools and skills it
exposes them. `reader` makes one model of every version of the format, with a finding for whatever it had to guess;
`checks` looks for what cannot work; `performing` carries an exposed operation out. Nothing here knows a perdure server:
to a capability it is an upstream like any other.
"""

from __future__ import annotations

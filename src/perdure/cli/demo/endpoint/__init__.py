"""The demo's part of the endpoint: a request that streams, fails in mid stream, sleeps, and outlives its process.

`part` plays it; `callers` are curl, the Python client and npm's, `npm` gets the latter's package; a `transcript` keeps
and prints what a caller hears; `evidence` judges.
"""

from __future__ import annotations

from perdure.cli.demo.endpoint.part import play as play

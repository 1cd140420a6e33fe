"""`perdure demo`: the main job end to end, with the evidence.

Orders go to a server process over HTTP, the process is killed with SIGKILL in the middle of its work and started
again, and what is printed at the end comes from what was recorded: the server's API and the ledger of the world
outside. `command` directs, `process` is the server, `sending` the user who sends, `ledger` reads the ledger,
`recorded` asks the server, `evidence` judges, `timeline` draws.
"""

from __future__ import annotations

from perdure.cli.demo.command import demo as demo

"""`perdure demo`: what perdure promises, shown end to end in parts, each with its evidence.

A part starts processes, sends them work over HTTP, kills one with SIGKILL in the middle and starts it again; what is
printed at the end comes from what was recorded. `command` chooses the parts, a `Stage` is what each gets: a folder, an
HTTP session, and a voice. Each part is a package: `orders` (events and functions), `endpoint` (a request that becomes
a run, and streams). `process`, `ledger` and `recorded` are theirs to share: the processes, the world outside, and what
the server says; `findings` are claims, and whether they hold.
"""

from __future__ import annotations

from perdure.cli.demo.command import demo as demo

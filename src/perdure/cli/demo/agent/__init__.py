"""The demo's part of the agent: killed in mid sentence, read on from an offset, approved, finished.

`part` plays it; `script` is what the model says; an `observer` follows the stream as a browser would; `evidence`
judges.
"""

from __future__ import annotations

from perdure.cli.demo.agent.part import play as play

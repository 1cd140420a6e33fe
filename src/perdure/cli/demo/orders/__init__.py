"""The demo's first part: 300 orders over HTTP, the server killed twice in the middle of its work.

`part` plays it, `director` directs, `sending` is the user who sends, `evidence` judges, `timeline` draws.
"""

from __future__ import annotations

from perdure.cli.demo.orders.part import play as play

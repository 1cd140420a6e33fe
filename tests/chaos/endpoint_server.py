"""`perdure dev` that gives up on silent apps early, so that a test need not wait ten minutes for that."""

from __future__ import annotations

from perdure.apps import endpoint
from perdure.cli import main

if __name__ == "__main__":
    endpoint.__dict__.update(SILENCE=2000, GRACE=1000)
    main(prog_name="perdure")

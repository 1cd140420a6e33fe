"""A remote engine that is not open says so, to callers and to what it had put off."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.agents.durable import remote_engine
from perdure.model.errors import PerdureError


async def test_what_is_asked_of_a_closed_engine_is_refused_as_an_error_of_ours(tmp_path: Path) -> None:
    # Logs are compacted a minute after their runs; by then the engine may have gone.
    async with remote_engine("http://127.0.0.1:9", store=tmp_path / "agents.db") as engine:
        assert engine.storage is not None
    for asked in (engine.standing("r"), engine.resting("r"), engine.cancel("r"), engine.last_offset("r")):
        with pytest.raises(PerdureError, match="the remote engine is not open"):
            await asked

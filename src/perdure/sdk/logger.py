"""The logger of a run: a plain `logging` adapter that does not repeat itself.

A handler is replayed from its first line, so what it logs before the last recorded step was already logged by
an earlier life of the run. `RunLogger` asks the execution whether it is still replaying and is silent then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping

from perdure.model.json import Json

_logger = logging.getLogger("perdure.run")


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """Logs under the name `perdure.run`; each record carries `run_id` and `function_id`."""

    def __init__(self, run_id: str, function_id: str, silent: Callable[[], bool]) -> None:
        super().__init__(_logger, {"run_id": run_id, "function_id": function_id})
        self._silent = silent

    def isEnabledFor(self, level: int) -> bool:
        return self.logger.isEnabledFor(level) and not self._silent()

    def process(self, msg: Json, kwargs: MutableMapping[str, Json]) -> tuple[Json, MutableMapping[str, Json]]:
        # The adapter of Python 3.11 would replace the caller's `extra` instead of adding to it.
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs

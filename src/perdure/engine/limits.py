"""The protocol's limits on a run (C.10), as errors that name the step and the size. They are final."""

from __future__ import annotations

from typing import Final

from perdure.model.errors import ErrorInfo
from perdure.model.limits import MAX_STATE_BYTES, MAX_STEP_BYTES, MAX_STEPS
from perdure.model.ops import Op

NAMES: Final = frozenset({"InngestErrFunctionOverflowed", "StepOutputTooLargeError", "InngestErrStateOverflowed"})
"""The names of the errors."""


def exceeded(op: Op, steps: int, state_bytes: int, *, max_steps: int = MAX_STEPS) -> ErrorInfo | None:
    """The limit that an operation breaks in a run with this many steps and bytes of state, the operation included."""
    size = len(op.data) if op.data else 0
    if steps > max_steps:
        return ErrorInfo(
            "InngestErrFunctionOverflowed",
            f"The function run exceeded the step limit of {max_steps} steps, at step {op.name!r}.",
            error="function has too many steps",
        )
    if size > MAX_STEP_BYTES:
        return ErrorInfo(
            "StepOutputTooLargeError",
            f"The output of step {op.name!r} is {size} bytes; at most {MAX_STEP_BYTES} are allowed. "
            "Store it elsewhere and return a reference.",
            error="output_too_large",
        )
    if state_bytes > MAX_STATE_BYTES:
        return ErrorInfo(
            "InngestErrStateOverflowed",
            f"The function run exceeded the state size limit of {MAX_STATE_BYTES} bytes, at step {op.name!r}.",
            error="state_size_exceeded",
        )
    return None

"""What a raised error means for the retries of a step or handler."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Iterator
from types import TracebackType

import msgspec

from perdure.model.errors import ErrorInfo, NonRetriableError, RetryAfterError, StepError, describe
from perdure.model.values import RestoreError, UnserializableError

# A failed step is recorded and fails the same way in every replay, so an attempt more cannot help.
_FINAL = (NonRetriableError, StepError, UnserializableError, RestoreError)
_OURS = ("perdure.sdk.", "perdure.runner.", "perdure.serving.", "asyncio.", "concurrent.", "threading.")


class Failure(msgspec.Struct, frozen=True):
    """An error as recorded. `no_retry`: it is final; `retry_after`: ms until the next attempt, if given."""

    info: ErrorInfo
    no_retry: bool
    retry_after: int | None


def failure_of(error: BaseException, now: int) -> Failure:
    """Judges an error of a step or handler; of a group of errors, the one that says most decides.

    >>> failure_of(NonRetriableError("no such card"), now=0).no_retry
    True
    """
    leaves = list(_leaves(error))
    delays = [leaf.millis(now) for leaf in leaves if isinstance(leaf, RetryAfterError)]
    info = describe(error.with_traceback(_users_part(error.__traceback__)))
    if isinstance(error, BaseExceptionGroup):
        info.message += ": " + "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in leaves)
    if isinstance(error, CancelledError) and not info.message:
        info.message = "the code awaited something that was cancelled"
    return Failure(
        info=info,
        no_retry=any(isinstance(leaf, _FINAL) for leaf in leaves),
        retry_after=max(delays) if delays else None,
    )


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that is not perdure's own; all of it where there is none."""
    part = trace
    while part is not None and _module(part).startswith(_OURS):
        part = part.tb_next
    return part or trace


def _module(trace: TracebackType) -> str:
    return f"{trace.tb_frame.f_globals.get('__name__', '')}."

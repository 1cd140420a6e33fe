"""Errors of agents that have a meaning over HTTP: `status` is the code by which a server tells them."""

from __future__ import annotations

from typing import ClassVar

from perdure.model.errors import PerdureError


class AgentError(PerdureError):
    """Base of the errors of agents' runs, threads and approvals."""

    status: ClassVar[int] = 500


class AccessDeniedError(AgentError):
    """A thread or run belongs to another resource."""

    status = 403


class ThreadNotFoundError(AgentError, LookupError):
    """There is no thread with this id."""

    status = 404


class RunNotFoundError(AgentError, LookupError):
    """There is no such run, or it asks no such question."""

    status = 404


class NotThereError(AgentError, LookupError):
    """There is no stored agent, or version, of this id."""

    status = 404


class ConflictError(AgentError):
    """What is asked for was done already, in another way: an id that is taken, a question that is decided."""

    status = 409


class GoneError(AgentError):
    """It is too late: the run is over, or the time of the question is."""

    status = 410


class InvalidOptionError(AgentError, ValueError):
    """An option of a call cannot be used; the text names it and says what is wrong."""

    status = 400

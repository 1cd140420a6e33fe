"""Metadata of runs and scores, as they come in: bodies become the notes of `perdure.engine.run_metadata`.

A target is a step by its id (or its hash), a span by its id, or the run itself.
"""

from __future__ import annotations

import re
from typing import Literal, TypeVar

import msgspec
from starlette.requests import Request

from perdure.engine import run_metadata
from perdure.engine.run_metadata import Note
from perdure.model.ids import step_hash
from perdure.model.json import Json
from perdure.server.backend import Backend
from perdure.server.bodies import read_json
from perdure.server.envelope import ApiError

T = TypeVar("T")
_MAX_BODY = 2 * 1024 * 1024
_MAX_NAME = 128
_HASH = re.compile(r"[0-9a-f]{40}")
_SCORE = "inngest.score"


class _Target(msgspec.Struct):
    step_id: str | None = None
    step_index: int | None = None
    step_attempt: int | None = None
    span_id: str | None = None

    def place(self) -> str:
        """The target as it is kept. Attempts share the notes of their step. Raises `ApiError`."""
        if (self.step_index or 0) < 0:
            raise _invalid("step_index must not be negative")
        if len(self.span_id or "") > _MAX_NAME:
            raise _invalid(f"span_id must have at most {_MAX_NAME} characters")
        if self.step_id:
            return self.step_id if _HASH.fullmatch(self.step_id) else step_hash(self.step_id, self.step_index or 0)
        return self.span_id or ""


class _Update(msgspec.Struct):
    kind: str
    values: dict[str, Json]
    scope: str | None = None
    op: Literal["merge", "set", "delete"] = "merge"


class _Metadata(msgspec.Struct):
    metadata: list[_Update]
    target: _Target = msgspec.field(default_factory=_Target)


class _Score(msgspec.Struct, rename="camel"):
    name: str
    value: bool | int | float
    step_id: str | None = None


async def attach_metadata(backend: Backend, run_id: str, request: Request, missing: ApiError) -> None:
    """Attaches the metadata of a request to a run. Raises `ApiError`: `missing` where there is no such run."""
    body = _shaped(await read_json(request.scope, request.receive, _MAX_BODY), _Metadata)
    target = body.target.place()
    notes: list[Note] = []
    for update in body.metadata:
        scope = update.scope or ("step" if target else "run")
        if not all(0 < len(name) <= _MAX_NAME for name in (update.kind, scope)):
            raise _invalid(f"metadata kind and scope must have 1 to {_MAX_NAME} characters")
        notes.append(Note(scope, update.kind, update.values, update.op))
    await _attach(backend, run_id, target, notes, missing)


async def attach_scores(backend: Backend, run_id: str, request: Request, missing: ApiError) -> list[Json]:
    """Attaches the scores of a request to a run; returns them. Raises `ApiError`."""
    scores = _shaped(await read_json(request.scope, request.receive, _MAX_BODY), list[_Score])
    by_target: dict[str, dict[str, Json]] = {}
    for score in scores:
        if not score.name or score.step_id == "":
            raise _invalid("the name and the stepId of a score must not be empty")
        by_target.setdefault(_Target(score.step_id).place(), {})[score.name] = {"value": score.value}
    for target, values in by_target.items() or {"": dict[str, Json]()}.items():
        await _attach(backend, run_id, target, [Note("step" if target else "run", _SCORE, values)], missing)
    return [{key: value for key, value in msgspec.to_builtins(score).items() if value is not None} for score in scores]


async def _attach(backend: Backend, run_id: str, target: str, notes: list[Note], missing: ApiError) -> None:
    attach = run_metadata.attach_to_step if _HASH.fullmatch(target) else run_metadata.attach
    rejected = await backend.decide(attach, run_id, target, notes)
    if rejected is None:
        return
    if rejected.reason == "not_found":
        raise missing
    raise ApiError(404 if rejected.reason == "no_target" else 413, rejected.message)


def _shaped(body: Json, kind: type[T]) -> T:
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise _invalid(f"request body: {error}") from error


def _invalid(message: str) -> ApiError:
    return ApiError(400, message, "invalid_field_format")

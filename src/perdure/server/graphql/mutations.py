"""What the API changes: runs cancelled, done once more, invoked; apps synchronized and removed."""

from __future__ import annotations

from graphql import GraphQLError

from perdure.model.errors import NotFoundError, RefusedError
from perdure.model.event import EventError
from perdure.model.ids import is_ulid
from perdure.model.json import Json
from perdure.model.records import RunStatus
from perdure.server.graphql import nodes
from perdure.server.graphql.reader import Reader

_LATER = ("debounced", "batched", "duplicate")
"""Refusals after which a run comes, or came, nevertheless."""


async def cancel_run(reader: Reader, runID: str) -> Json:
    """Cancels a run, and shows it. One that is cancelled already stays so."""
    run_id = _ulid(runID)
    try:
        had = await reader.backend.cancel(run_id)
    except NotFoundError as error:
        raise GraphQLError(f"there is no run {run_id}") from error
    if had.final and had != RunStatus.CANCELLED:
        raise GraphQLError(f"run {run_id} has ended: it is {had}")
    reader.forget()
    run = await reader.run(run_id)
    return None if run is None else nodes.run(reader, run)


async def rerun(reader: Reader, runID: str, fromStep: dict[str, Json] | None = None) -> str:
    """Starts a run once more; the id of the new one."""
    run_id = _ulid(runID)
    chosen = fromStep or {}
    arguments = chosen.get("input")
    if arguments is not None and not isinstance(arguments, list):
        raise GraphQLError("fromStep.input must be a list: the arguments of the step")
    try:
        started = await reader.backend.rerun(run_id, chosen.get("stepID"), arguments)
    except NotFoundError as error:
        raise GraphQLError(f"there is no run {run_id}") from error
    except RefusedError as error:
        raise GraphQLError(str(error)) from error
    reader.forget()
    return started.run_id


async def invoke_function(
    reader: Reader, functionSlug: str, data: dict[str, Json] | None = None, user: dict[str, Json] | None = None
) -> bool:
    """Starts a function with an event of its own."""
    for name, value in (("data", data), ("user", user)):
        if value is not None and not isinstance(value, dict):
            raise GraphQLError(f"{name} must be an object")
    try:
        invoked = await reader.backend.invoke(functionSlug, {"data": data or {}, "user": user})
    except NotFoundError as error:
        raise GraphQLError(str(error)) from error
    except EventError as error:
        raise GraphQLError(error.reason) from error
    if invoked.refused is not None and invoked.refused.reason not in _LATER:
        raise GraphQLError(invoked.refused.message)
    reader.forget()
    return True


async def create_app(reader: Reader, input: dict[str, Json]) -> Json:
    """Awaits the app at a URL, which is asked to register at once and until it does; shows what is known of it."""
    url: str = input["url"]
    if not url.startswith(("http://", "https://")):
        raise GraphQLError(
            f"input.url must be where an app is served, such as http://localhost:3000/api/inngest: {url}"
        )
    row = reader.backend.registry.add(url)
    reader.forget()
    return await nodes.app(reader, row.id)


async def delete_app(reader: Reader, id: str) -> str:
    """Removes an app by its UUID; returns that."""
    app = next((app for app in await nodes.apps(reader) if app["id"] == id), None)
    if app is None:
        raise GraphQLError(f"there is no app {id}")
    await _remove(reader, app["externalID"] or app["url"])
    return id


async def delete_app_by_name(reader: Reader, name: str) -> bool:
    """Removes an app by its name."""
    await _remove(reader, name)
    return True


async def _remove(reader: Reader, name: str) -> None:
    if not await reader.backend.registry.remove(name):
        raise GraphQLError(f"there is no app {name} on another server: those in the server's process stay")
    reader.forget()


def _ulid(value: object) -> str:
    if not isinstance(value, str) or not is_ulid(value):
        raise GraphQLError("runID must be a ULID")
    return value

"""Threads and the resources that they belong to: conversations, and who has them.

A thread is created by whoever uses it first, and belongs to one resource: others are refused. Invariant: what goes
with a thread (messages, vectors, notes of its signals) goes and moves in the same transaction as the thread.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from perdure.engine.agents.mutations import (
    DeleteThread,
    DeleteThreadEmbeddings,
    DeleteThreadInbox,
    DeleteThreadMessages,
    MoveThreadEmbeddings,
    MoveThreadMessages,
    PutResource,
    put_message,
    put_thread,
)
from perdure.engine.agents.records import MessageRow, ResourceRow, ThreadRow
from perdure.engine.turn import Decision, Read

FOREIGN: Final = "foreign"
"""The answer where a thread belongs to another resource."""
EXISTS: Final = "exists"
MISSING: Final = "missing"

Refusal: TypeAlias = Literal["foreign", "exists", "missing"]
ThreadOrder: TypeAlias = Literal["createdAt", "updatedAt"]


class Cloned(msgspec.Struct):
    """A copy of a thread, its messages, and which of them is a copy of which."""

    thread: ThreadRow
    messages: list[MessageRow]
    ids: dict[str, str]


def thread_by_id(thread_id: str) -> Decision[ThreadRow | None]:
    rows = yield Read("thread_by_id", (thread_id,))
    return ThreadRow(*rows[0]) if rows else None


def create(row: ThreadRow) -> Decision[ThreadRow | Refusal]:
    """A new thread; `EXISTS` when there is one with its id."""
    if (yield from thread_by_id(row.id)) is not None:
        return EXISTS
    yield put_thread(row)
    return row


def ensure(row: ThreadRow) -> Decision[ThreadRow | Refusal]:
    """The thread with this id, made of `row` at its first use; `FOREIGN` when another resource has it."""
    known = yield from thread_by_id(row.id)
    if known is None:
        yield put_thread(row)
        return row
    return known if known.resource_id == row.resource_id else FOREIGN


def list_threads(
    resource_id: str | None, metadata: str | None, order: ThreadOrder, descending: bool, limit: int, offset: int
) -> Decision[tuple[list[ThreadRow], int]]:
    """A page of threads, and how many there are in all. `metadata` is a JSON object: what a thread must have."""
    sign = -1 if descending else 1
    rows = yield Read("list_threads", (resource_id, metadata, order, sign, limit, offset))
    total = yield Read("count_threads", (resource_id, metadata))
    return [ThreadRow(*row) for row in rows], total[0][0]


def update(
    thread_id: str, now: int, title: str | None, metadata: str | None, resource_id: str | None
) -> Decision[ThreadRow | Refusal]:
    """Changes what is given; a new resource gets the messages too."""
    row = yield from thread_by_id(thread_id)
    if row is None:
        return MISSING
    row.title = row.title if title is None else title
    row.metadata = row.metadata if metadata is None else metadata
    row.updated_at = now
    if resource_id is not None and resource_id != row.resource_id:
        row.resource_id = resource_id
        yield MoveThreadMessages(resource_id, thread_id)
        yield MoveThreadEmbeddings(resource_id, thread_id)
    yield put_thread(row)
    return row


def delete(thread_ids: list[str]) -> Decision[int]:
    """Forgets threads with all that is theirs; how many there were."""
    found = 0
    for thread_id in thread_ids:
        found += (yield from thread_by_id(thread_id)) is not None
        yield DeleteThread(thread_id)
        yield DeleteThreadMessages(thread_id)
        yield DeleteThreadEmbeddings(thread_id)
        yield DeleteThreadInbox(thread_id)
    return found


def clone(source_id: str, copy: ThreadRow, title: str | None, new_ids: list[str]) -> Decision[Cloned | Refusal]:
    """Copies a thread with its newest messages, as many as there are `new_ids`.

    An empty `resource_id` of the copy stands for the source's.
    """
    source = yield from thread_by_id(source_id)
    if source is None:
        return MISSING
    if (yield from thread_by_id(copy.id)) is not None:
        return EXISTS
    rows = yield Read("latest_messages", (source_id, source.last_seq, len(new_ids)))
    originals = [MessageRow(*row) for row in reversed(rows)]
    copy.resource_id = copy.resource_id or source.resource_id
    copy.title = source.title if title is None else title
    copy.working_memory = source.working_memory
    copy.last_seq = len(originals)
    yield put_thread(copy)
    copied: list[MessageRow] = []
    for seq, (original, new_id) in enumerate(zip(originals, new_ids, strict=False), 1):
        copied.append(
            msgspec.structs.replace(original, id=new_id, thread_id=copy.id, resource_id=copy.resource_id, seq=seq)
        )
        yield put_message(copied[-1])
    ids = {original.id: message.id for original, message in zip(originals, copied, strict=True)}
    return Cloned(copy, copied, ids)


def resource_by_id(resource_id: str) -> Decision[ResourceRow | None]:
    rows = yield Read("resource_by_id", (resource_id,))
    return ResourceRow(*rows[0]) if rows else None


def put_resource(row: ResourceRow) -> Decision[None]:
    yield PutResource(*msgspec.structs.astuple(row))


def note_in_resource(resource_id: str, text: str | None, now: int) -> Decision[None]:
    """Sets the working memory that all threads of a resource share."""
    row = (yield from resource_by_id(resource_id)) or ResourceRow(resource_id, None, None, now, now)
    row.working_memory, row.updated_at = text, now
    yield from put_resource(row)


def note_in_thread(thread_id: str, text: str | None, now: int) -> Decision[bool]:
    """Sets a thread's own working memory; whether there is the thread."""
    row = yield from thread_by_id(thread_id)
    if row is None:
        return False
    row.working_memory, row.updated_at = text, now
    yield put_thread(row)
    return True


def expired(before: int, cursor: str, limit: int) -> Decision[list[str]]:
    """A page of the threads in which nothing has happened since a time."""
    rows = yield Read("expired_threads", (cursor, before, limit))
    return [row[0] for row in rows]

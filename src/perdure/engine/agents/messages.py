"""Messages: an ordered log a thread, whose order the store assigns, and the vectors by which they are found again.

Invariants: a message's place in its thread is given once and never again; its id is unique over all threads, and
saving it again replaces its content, in its place, but never in another thread.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from perdure.engine.agents.mutations import (
    DeleteMessage,
    DeleteMessageEmbeddings,
    PutEmbedding,
    put_message,
    put_thread,
)
from perdure.engine.agents.records import EmbeddingRow, MessageRow
from perdure.engine.agents.threads import thread_by_id
from perdure.engine.turn import Decision, Read
from perdure.model.json import encode


class Unsaved(msgspec.Struct, frozen=True):
    """Why messages were not saved; none of them was. `reason`: "missing", "foreign" (thread), "taken" (id)."""

    reason: str
    subject: str


def message_by_id(message_id: str) -> Decision[MessageRow | None]:
    rows = yield Read("message_by_id", (message_id,))
    return MessageRow(*rows[0]) if rows else None


def save(rows: list[MessageRow], now: int) -> Decision[list[MessageRow] | Unsaved]:
    """Appends messages to their threads, or replaces those that are there; the rows with their places."""
    threads = {}
    known: dict[str, MessageRow] = {}
    for row in rows:
        if row.thread_id not in threads:
            thread = yield from thread_by_id(row.thread_id)
            if thread is None:
                return Unsaved("missing", row.thread_id)
            threads[row.thread_id] = thread
        if threads[row.thread_id].resource_id != row.resource_id:
            return Unsaved("foreign", row.thread_id)
        there = known.get(row.id) or (yield from message_by_id(row.id))
        if there is not None:
            if there.thread_id != row.thread_id:
                return Unsaved("taken", row.id)
            row.seq, row.created_at = there.seq, there.created_at
        else:
            threads[row.thread_id].last_seq += 1
            row.seq = threads[row.thread_id].last_seq
        known[row.id] = row
    for row in rows:
        yield put_message(row)
    for thread in threads.values():
        thread.updated_at = now
        yield put_thread(thread)
    return rows


def edit(message_id: str, change: Callable[[MessageRow], MessageRow]) -> Decision[MessageRow | None]:
    """Replaces a message by what `change` makes of it; None where there is none of this id."""
    row = yield from message_by_id(message_id)
    if row is None:
        return None
    row = change(row)
    yield put_message(row)
    return row


def list_messages(
    thread_id: str,
    roles: list[str] | None,
    after: int | None,
    before: int | None,
    *,
    newest_first: bool,
    limit: int,
    offset: int,
) -> Decision[tuple[list[MessageRow], int]]:
    """A page of a thread's messages, in the order that is asked for, and how many there are in all."""
    chosen = (thread_id, None if roles is None else encode(roles).decode(), after, before)
    if newest_first:
        rows = yield Read("list_messages", (*chosen, limit, offset))
    else:
        rows = yield Read("list_messages_oldest_first", (*chosen, limit, offset))
    total = yield Read("count_messages", chosen)
    return [MessageRow(*row) for row in rows], total[0][0]


def latest(thread_id: str, limit: int, until: int | None) -> Decision[tuple[list[MessageRow], int]]:
    """The newest messages up to a place, oldest first, and the place up to which they were looked for."""
    if until is None:
        thread = yield from thread_by_id(thread_id)
        until = 0 if thread is None else thread.last_seq
    rows = (yield Read("latest_messages", (thread_id, until, limit))) if limit else []
    return [MessageRow(*row) for row in reversed(rows)], until


def around_all(places: list[tuple[str, int, int]]) -> Decision[list[MessageRow]]:
    """Messages (id, how many before, how many after) with their neighbours, each once, by thread and in its order."""
    found: dict[str, MessageRow] = {}
    for message_id, previous, following in places:
        found.update((row.id, row) for row in (yield from around(message_id, previous, following)))
    return sorted(found.values(), key=lambda row: (row.thread_id, row.seq))


def around(message_id: str, previous: int, following: int) -> Decision[list[MessageRow]]:
    """A message with its neighbours, in order; nothing where there is no such message."""
    row = yield from message_by_id(message_id)
    if row is None:
        return []
    before = (yield Read("messages_before", (row.thread_id, row.seq, previous))) if previous else []
    after = (yield Read("messages_after", (row.thread_id, row.seq, following))) if following else []
    return [*(MessageRow(*each) for each in reversed(before)), row, *(MessageRow(*each) for each in after)]


def delete(message_ids: list[str], thread_id: str | None = None) -> Decision[int]:
    """Forgets messages; those of other threads than the given one stay. How many went."""
    found = 0
    for message_id in message_ids:
        row = yield from message_by_id(message_id)
        if row is not None and thread_id in (None, row.thread_id):
            found += 1
            yield DeleteMessage(message_id)
            yield DeleteMessageEmbeddings(message_id)
    return found


def put_embeddings(message_id: str, space: str, vectors: list[bytes]) -> Decision[int]:
    """Keeps the vectors of a message in place of those that it had; 0 where there is no such message."""
    row = yield from message_by_id(message_id)
    if row is None:
        return 0
    yield DeleteMessageEmbeddings(message_id)
    for position, vector in enumerate(vectors):
        yield PutEmbedding(message_id, position, row.thread_id, row.resource_id, space, vector)
    return len(vectors)


def embeddings(
    thread_id: str | None, resource_id: str | None, space: str, after: tuple[str, int], limit: int
) -> Decision[list[EmbeddingRow]]:
    """A page of the vectors of a thread, or of all threads of a resource."""
    if thread_id is not None:
        rows = yield Read("embeddings_of_thread", (thread_id, space, *after, limit))
    else:
        rows = yield Read("embeddings_of_resource", (resource_id, space, *after, limit))
    return [EmbeddingRow(*row) for row in rows]

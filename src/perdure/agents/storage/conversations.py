"""Threads, their messages, the resources that they belong to, and the vectors by which messages are found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from perdure.agents.errors import AccessDeniedError, ConflictError, InvalidOptionError, ThreadNotFoundError
from perdure.agents.messages import Message
from perdure.agents.storage import vectors
from perdure.agents.storage.base import MOST, Base, page_of, slice_of
from perdure.agents.storage.shapes import (
    Clone,
    Include,
    Match,
    Page,
    Resource,
    Thread,
    message_of,
    message_row,
    resource_of,
    thread_of,
)
from perdure.agents.storage.texts import check_id, check_text, metadata_text
from perdure.engine.agents import messages as message_log
from perdure.engine.agents import threads
from perdure.engine.agents.messages import Unsaved
from perdure.engine.agents.records import MessageRow, ThreadRow
from perdure.engine.agents.threads import EXISTS, ThreadOrder
from perdure.model.json import Json

_VECTORS_AT_ONCE = 1000


def _foreign() -> AccessDeniedError:
    return AccessDeniedError("Access denied: thread belongs to a different resource")


def _no_thread(thread_id: str) -> ThreadNotFoundError:
    return ThreadNotFoundError(f"there is no thread {thread_id!r}")


class Conversations(Base):
    """The part of the storage that keeps what was said."""

    async def thread(self, thread_id: str) -> Thread | None:
        """A thread by its id."""
        row = await self._view(lambda: threads.thread_by_id(thread_id))
        return None if row is None else thread_of(row)

    def _new_thread(
        self, thread_id: str | None, resource_id: str, title: str, metadata: dict[str, Json] | None
    ) -> ThreadRow:
        check_id("thread_id", thread_id)
        check_id("resource_id", resource_id)
        check_text("title", title)
        now = self.now()
        return ThreadRow(thread_id or self.ids(), resource_id, title, metadata_text(metadata), None, 0, now, now)

    async def create_thread(
        self,
        resource_id: str,
        *,
        id: str | None = None,
        title: str = "",
        metadata: dict[str, Json] | None = None,
    ) -> Thread:
        """A new thread. Raises `ConflictError` when there is one with the id."""
        row = self._new_thread(id, resource_id, title, metadata)
        made = await self._decide(lambda: threads.create(row))
        if isinstance(made, str):
            raise ConflictError(f"there is a thread {row.id!r} already")
        return thread_of(made)

    async def ensure_thread(
        self, thread_id: str, resource_id: str, *, title: str = "", metadata: dict[str, Json] | None = None
    ) -> Thread:
        """The thread with this id, created at its first use. Raises `AccessDeniedError` for one of another resource."""
        known = await self.thread(thread_id)
        if known is not None and known.resource_id == resource_id:
            return known
        row = self._new_thread(thread_id, resource_id, title, metadata)
        made = await self._decide(lambda: threads.ensure(row))
        if isinstance(made, str):
            raise _foreign()
        return thread_of(made)

    async def threads(
        self,
        *,
        resource_id: str | None = None,
        metadata: dict[str, Json] | None = None,
        order_by: ThreadOrder = "createdAt",
        descending: bool = True,
        page: int = 0,
        per_page: int | None = 100,
    ) -> Page[Thread]:
        """A page of threads: those of a resource, whose metadata has all the given values."""
        limit, offset = slice_of(page, per_page)
        asked = metadata_text(metadata or None)
        rows, total = await self._view(
            lambda: threads.list_threads(resource_id, asked, order_by, descending, limit, offset)
        )
        return page_of([thread_of(row) for row in rows], total, page, per_page)

    async def update_thread(
        self,
        thread_id: str,
        *,
        title: str | None = None,
        metadata: dict[str, Json] | None = None,
        resource_id: str | None = None,
    ) -> Thread:
        """Changes what is given. Raises `ThreadNotFoundError`."""
        check_text("title", title)
        check_id("resource_id", resource_id)
        now, kept = self.now(), metadata_text(metadata)
        row = await self._decide(lambda: threads.update(thread_id, now, title, kept, resource_id))
        if isinstance(row, str):
            raise _no_thread(thread_id)
        return thread_of(row)

    async def transfer_thread(self, thread_id: str, resource_id: str) -> Thread:
        """Gives a thread with its messages to another resource. Raises `ThreadNotFoundError`."""
        return await self.update_thread(thread_id, resource_id=resource_id)

    async def delete_thread(self, thread_id: str) -> bool:
        """Forgets a thread and everything in it; whether there was one."""
        return await self._decide(lambda: threads.delete([thread_id])) > 0

    async def clone_thread(
        self,
        thread_id: str,
        *,
        new_id: str | None = None,
        resource_id: str | None = None,
        title: str | None = None,
        metadata: dict[str, Json] | None = None,
        message_limit: int | None = None,
    ) -> Clone:
        """Copies a thread with its newest messages (all by default) under new ids.

        `metadata` of the copy is the source's with the given one over it, and `clone` in it says where it comes from.
        Raises `ThreadNotFoundError`, and `ConflictError` when `new_id` is taken.
        """
        source = await self._view(lambda: threads.thread_by_id(thread_id))
        if source is None:
            raise _no_thread(thread_id)
        newest = await self._view(lambda: message_log.latest(thread_id, 1, None))
        origin: dict[str, Json] = {"sourceThreadId": thread_id, "clonedAt": self.now()}
        if newest[0]:
            origin["lastMessageId"] = newest[0][0].id
        kept = (thread_of(source).metadata or {}) | (metadata or {}) | {"clone": origin}
        copy = self._new_thread(new_id, resource_id or "", "", kept)
        count = source.last_seq if message_limit is None else min(message_limit, source.last_seq)
        new_ids = [self.ids() for _ in range(count)]
        made = await self._decide(lambda: threads.clone(thread_id, copy, title, new_ids))
        if made == EXISTS:
            raise ConflictError(f"there is a thread {copy.id!r} already")
        if isinstance(made, str):
            raise _no_thread(thread_id)
        return Clone(thread_of(made.thread), [message_of(row) for row in made.messages], made.ids)

    async def save_messages(self, messages: Sequence[Message]) -> list[Message]:
        """Appends messages to their threads in this order, all or none; one whose id is there replaces it, in place.

        Raises `InvalidOptionError` for a message without thread or resource, `ThreadNotFoundError`,
        `AccessDeniedError` for a thread of another resource, and `ConflictError` for an id in another thread.
        """
        for index, message in enumerate(messages):
            if not message.thread_id or not message.resource_id:
                raise InvalidOptionError(f"messages[{index}]: needs a thread_id and a resource_id to be saved")
            check_id(f"messages[{index}].id", message.id)
            check_id(f"messages[{index}].type", message.type)
        if not messages:
            return []
        now = self.now()
        saved = await self._decide(lambda: message_log.save([message_row(each) for each in messages], now))
        if not isinstance(saved, Unsaved):
            self.tell(*{f"thread:{each.thread_id}" for each in messages})
            return [message_of(row) for row in saved]
        if saved.reason == "missing":
            raise _no_thread(saved.subject)
        if saved.reason == "foreign":
            raise _foreign()
        raise ConflictError(f"the message id {saved.subject!r} is taken in another thread")

    async def message(self, message_id: str) -> Message | None:
        """A message by its id."""
        row = await self._view(lambda: message_log.message_by_id(message_id))
        return None if row is None else message_of(row)

    async def edit_message(self, message_id: str, edit: Callable[[Message], Message]) -> bool:
        """Replaces a message by what `edit` makes of it, in one transaction; whether there is one."""

        def edited(row: MessageRow) -> MessageRow:
            made = message_row(edit(message_of(row)))
            return msgspec.structs.replace(row, body=made.body)

        row = await self._decide(lambda: message_log.edit(message_id, edited))
        if row is not None:
            self.tell(f"thread:{row.thread_id}")
        return row is not None

    async def messages(
        self,
        thread_id: str,
        *,
        page: int = 0,
        per_page: int | None = 40,
        newest: bool = True,
        roles: Sequence[str] | None = None,
        after: int | None = None,
        before: int | None = None,
        include: Sequence[Include] = (),
    ) -> Page[Message]:
        """A page of a thread's messages, in order of the thread.

        Page 0 has the newest ones, or the oldest with `newest=False`. `after` and `before` are times in ms, both ends
        included. `include` adds messages with their neighbours, from other threads too.
        """
        limit, offset = slice_of(page, per_page)
        rows, total = await self._view(
            lambda: message_log.list_messages(
                thread_id,
                None if roles is None else list(roles),
                after,
                before,
                newest_first=newest,
                limit=limit,
                offset=offset,
            )
        )
        found = {row.id: row for row in rows}
        places = [(each.id, each.previous, each.next) for each in include]
        if places:
            found.update((row.id, row) for row in await self._view(lambda: message_log.around_all(places)))
        ordered = sorted(found.values(), key=lambda row: (row.thread_id != thread_id, row.thread_id, row.seq))
        return page_of([message_of(row) for row in ordered], total, page, per_page)

    async def around(self, wanted: Sequence[Include]) -> list[Message]:
        """Messages with their neighbours, each once, by thread and in its order; those that are gone are left out."""
        places = [(each.id, each.previous, each.next) for each in wanted]
        return [message_of(row) for row in await self._view(lambda: message_log.around_all(places))]

    async def last_messages(
        self, thread_id: str, limit: int | None, *, until: int | None = None
    ) -> tuple[list[Message], int]:
        """The newest messages, oldest first, and the place in the thread up to which they were looked for.

        With that place as `until`, a later call gives the same messages (as far as they are still there).
        """
        count = MOST if limit is None else limit
        rows, place = await self._view(lambda: message_log.latest(thread_id, count, until))
        return [message_of(row) for row in rows], place

    async def delete_messages(self, message_ids: Sequence[str], *, thread_id: str | None = None) -> int:
        """Forgets messages (only those of a thread, where one is given); how many there were."""
        return await self._decide(lambda: message_log.delete(list(message_ids), thread_id))

    async def resource(self, resource_id: str) -> Resource | None:
        """What is remembered of a resource."""
        row = await self._view(lambda: threads.resource_by_id(resource_id))
        return None if row is None else resource_of(row)

    async def resource_memory(self, resource_id: str) -> str | None:
        """The working memory that all threads of a resource share."""
        found = await self.resource(resource_id)
        return None if found is None else found.working_memory

    async def set_resource_memory(self, resource_id: str, text: str | None) -> None:
        """Replaces it."""
        check_id("resource_id", resource_id)
        check_text("working memory", text)
        now = self.now()
        await self._decide(lambda: threads.note_in_resource(resource_id, text, now))

    async def thread_memory(self, thread_id: str) -> str | None:
        """The working memory of one thread."""
        found = await self.thread(thread_id)
        return None if found is None else found.working_memory

    async def set_thread_memory(self, thread_id: str, text: str | None) -> None:
        """Replaces it. Raises `ThreadNotFoundError`."""
        check_text("working memory", text)
        now = self.now()
        if not await self._decide(lambda: threads.note_in_thread(thread_id, text, now)):
            raise _no_thread(thread_id)

    async def put_embeddings(self, message_id: str, space: str, vectors_: Sequence[Sequence[float]]) -> int:
        """Keeps the vectors of a message's pieces in place of those it had; 0 where there is no such message."""
        packed = [vectors.pack(vector) for vector in vectors_]
        return await self._decide(lambda: message_log.put_embeddings(message_id, space, packed))

    async def search(
        self,
        vector: Sequence[float],
        *,
        space: str,
        thread_id: str | None = None,
        resource_id: str | None = None,
        limit: int = 4,
    ) -> list[Match]:
        """The messages nearest to a vector, best first, in a thread or in all threads of a resource.

        Exact: every vector is looked at. `space` names the embedder: vectors of others are not comparable.
        """
        if (thread_id is None) == (resource_id is None):
            raise InvalidOptionError("search: give thread_id or resource_id, one of them")
        nearest, after = vectors.Nearest(vector, limit), ("", -1)
        while True:
            rows = await self._view(
                lambda at=after: message_log.embeddings(thread_id, resource_id, space, at, _VECTORS_AT_ONCE)  # type: ignore[misc]
            )
            await asyncio.to_thread(nearest.look_at, [(row.message_id, row.thread_id, row.vector) for row in rows])
            if len(rows) < _VECTORS_AT_ONCE:
                return [Match(message, thread, score) for score, message, thread in nearest.best()]
            after = (rows[-1].message_id, rows[-1].position)

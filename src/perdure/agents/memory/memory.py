"""`Memory`: the history of threads, what is recalled from further back, notes that the model keeps, and titles.

The loop of an agent asks for it inside its steps: `load` before a model call, `save` whenever something was said,
`finish` and the title at the end. Invariants: a thread belongs to one resource, others are refused; saving and
finishing again changes nothing; `load` with the `until` of an earlier one gives the same history.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence

import msgspec

from perdure.agents.errors import AccessDeniedError, AgentError, InvalidOptionError
from perdure.agents.memory import recall, titles, working
from perdure.agents.memory.embedders import Embedder, OpenAIEmbedder
from perdure.agents.memory.filters import MessageFilter
from perdure.agents.memory.settings import SemanticRecall, Settings, Titles, WorkingMemory, applied
from perdure.agents.memory.titles import TitlePrompt
from perdure.agents.messages import Message
from perdure.agents.signals.signal import is_transient
from perdure.agents.spelling import camel_keys
from perdure.agents.storage import AgentStorage, Match
from perdure.agents.tools import Tool
from perdure.model.errors import ConfigError
from perdure.model.json import Json


class MemoryScope(msgspec.Struct, frozen=True):
    """Which conversation a run belongs to, and what of it is remembered in this run."""

    thread_id: str
    resource_id: str
    settings: Settings
    title: str = ""
    metadata: dict[str, Json] | None = None

    @property
    def has_history(self) -> bool:
        """Whether messages are read."""
        return self.settings.last_messages != 0

    @property
    def writes(self) -> bool:
        """Whether messages are saved."""
        return self.has_history and not self.settings.read_only


class Recalled(msgspec.Struct):
    """What a run remembers: messages before its own, oldest first; texts for the system; tools.

    `until` is JSON: with it a later `load` of the same run finds the same.
    """

    messages: list[Message]
    system: list[str]
    tools: list[Tool]
    until: Json = None


class Memory:
    """What an agent remembers. All settings can be overridden by the options of a run.

    `last_messages`: how many messages of the thread the model sees again (None: all, 0: none, and none are kept).
    `semantic_recall` needs an `embedder`: a callable, or the name of one (`"openai/text-embedding-3-small"`).
    `working_memory` and `generate_title` may be True for the defaults. `filters` choose what the model sees of the
    history. `storage` is where it is kept: the engine's, unless given. Raises `ConfigError`.

    >>> Memory(last_messages=20, working_memory=True).config()["lastMessages"]
    20
    """

    def __init__(
        self,
        *,
        storage: AgentStorage | None = None,
        last_messages: int | None = 10,
        semantic_recall: bool | SemanticRecall = False,
        embedder: Embedder | str | None = None,
        working_memory: bool | WorkingMemory = False,
        generate_title: bool | Titles = False,
        filters: Sequence[MessageFilter] = (),
        read_only: bool = False,
    ) -> None:
        self.embedder: Embedder | None = OpenAIEmbedder(embedder) if isinstance(embedder, str) else embedder
        self.filters = list(filters)
        self.settings = Settings(
            last_messages,
            SemanticRecall() if semantic_recall is True else semantic_recall or None,
            WorkingMemory() if working_memory is True else working_memory or None,
            Titles() if generate_title is True else generate_title or None,
            read_only,
        )
        self._storage = storage
        problems = list(self._problems())
        if problems:
            raise ConfigError("memory", problems)

    def _problems(self) -> list[str]:
        problems = []
        count, notes = self.settings.last_messages, self.settings.working
        if count is not None and count < 0:
            problems.append(f"last_messages: must be 0 or more, got {count}")
        if self.settings.recall is not None and self.embedder is None:
            problems.append('semantic_recall: needs an embedder: give embedder="provider/model", or a callable')
        if notes is not None and notes.template is not None and notes.schema is not None:
            problems.append("working_memory: give a template or a schema, not both")
        return problems

    @property
    def storage(self) -> AgentStorage:
        """Where it is kept. Raises `AgentError` before there is an engine."""
        if self._storage is None:
            raise AgentError("memory: there is no storage yet: give Memory(storage=...), or use it within an engine")
        return self._storage

    def use(self, storage: AgentStorage) -> Memory:
        """This memory on the engine's storage, unless it has one of its own."""
        return self if self._storage is not None else self._on(storage)

    def _on(self, storage: AgentStorage) -> Memory:
        made = Memory.__new__(Memory)
        made.embedder, made.filters, made.settings = self.embedder, self.filters, self.settings
        made._storage = storage
        return made

    def config(self) -> dict[str, Json]:
        """The settings, as the agents protocol tells them."""
        found, notes, near = self.settings, self.settings.working, self.settings.recall
        shown: dict[str, Json] = {"lastMessages": True if found.last_messages is None else found.last_messages}
        shown["semanticRecall"] = near is not None and {
            "topK": near.top_k,
            "messageRange": {"before": near.before, "after": near.after},
            "scope": near.scope,
        }
        shown["generateTitle"] = found.titles is not None
        shown["workingMemory"] = {"enabled": notes is not None}
        if notes is not None:
            shown["workingMemory"] |= {"scope": notes.scope, "template": working.template_of(notes)["content"]}
        if found.read_only:
            shown["readOnly"] = True
        return shown

    def scope(self, request: Json) -> MemoryScope | None:
        """Which conversation a run asks for: `{thread: id | {id, title?, metadata?}, resource, options?, readOnly?}`.

        None asks for none. Raises `InvalidOptionError` naming the field.
        """
        if request is None:
            return None
        given = camel_keys(request, "memory")
        thread = given.get("thread", given.get("threadId"))
        details: dict[str, Json] = thread if isinstance(thread, dict) else {"id": thread}
        if not isinstance(details.get("id"), str) or not details["id"]:
            raise InvalidOptionError("memory.thread: must be the id of a thread, or an object with an id")
        resource = given.get("resource", given.get("resourceId"))
        if not isinstance(resource, str) or not resource:
            raise InvalidOptionError("memory.resource: a resource id is needed: it says who the thread belongs to")
        settings = applied(self.settings, given.get("options"), can_recall=self.embedder is not None)
        if given.get("readOnly") is True:
            settings = msgspec.structs.replace(settings, read_only=True)
        title, metadata = details.get("title"), details.get("metadata")
        return MemoryScope(
            details["id"],
            resource,
            settings,
            title if isinstance(title, str) else "",
            metadata if isinstance(metadata, dict) else None,
        )

    async def load(
        self,
        scope: MemoryScope,
        input: Sequence[Message],
        *,
        exclude: Collection[str] = (),
        until: Json = None,
    ) -> Recalled:
        """What a run remembers. `input` is what was just said; `exclude` has the ids of the run's own messages.

        The thread is created at its first use. Raises `AccessDeniedError` for one of another resource,
        `EmbeddingError`.
        """
        await self._enter(scope)
        own = {message.id for message in input} | set(exclude)
        found = Recalled([], [], self.tools(scope), until)
        known = until if isinstance(until, dict) else {}
        if scope.has_history:
            limit = scope.settings.last_messages
            latest, place = await self.storage.last_messages(scope.thread_id, limit, until=known.get("seq"))
            found.messages = [message for message in latest if message.id not in own]
            found.until = {"seq": place}
        if scope.settings.recall is not None:
            await self._recall(scope, scope.settings.recall, input, own, known, found)
        for each in self.filters:
            kept = each(found.messages)
            found.messages = await kept if inspect.isawaitable(kept) else kept
        notes = await self._notes(scope)
        if notes is not None:
            found.system.append(notes)
        return found

    async def _enter(self, scope: MemoryScope) -> None:
        if scope.writes:
            await self.storage.ensure_thread(
                scope.thread_id, scope.resource_id, title=scope.title, metadata=scope.metadata
            )
            return
        thread = await self.storage.thread(scope.thread_id)
        if thread is not None and thread.resource_id != scope.resource_id:
            raise AccessDeniedError("Access denied: thread belongs to a different resource")

    async def _recall(
        self,
        scope: MemoryScope,
        settings: SemanticRecall,
        input: Sequence[Message],
        own: set[str],
        known: dict[str, Json],
        found: Recalled,
    ) -> None:
        ids: list[str] | None = known.get("recalled")
        if ids is None:
            query = next((message.text for message in reversed(input) if message.role == "user"), "")
            matches = await self.search(query, scope.thread_id, scope.resource_id, settings)
            ids = [match.message_id for match in matches if match.message_id not in own]
        found.until = {**(found.until or {}), "recalled": ids}
        there = own | {message.id for message in found.messages}
        near = await recall.with_neighbours(self.storage, settings, ids, there)
        found.messages = [message for message in near if message.thread_id == scope.thread_id] + found.messages
        elsewhere = [message for message in near if message.thread_id != scope.thread_id]
        if elsewhere:
            found.system.append(recall.quoted(elsewhere))

    async def search(
        self, query: str, thread_id: str, resource_id: str, settings: SemanticRecall | None = None
    ) -> list[Match]:
        """The messages nearest in meaning to a text, best first. Raises `AgentError` without an embedder."""
        if self.embedder is None:
            raise InvalidOptionError("memory: searching by meaning needs an embedder: give Memory(embedder=...)")
        settings = settings or self.settings.recall or SemanticRecall()
        return await recall.nearest(self.storage, self.embedder, settings, query, thread_id, resource_id)

    def tools(self, scope: MemoryScope) -> list[Tool]:
        """The tools by which the model changes what is remembered."""
        notes = scope.settings.working
        if notes is None or notes.read_only or scope.settings.read_only:
            return []
        return [working.update_tool(self.storage, notes, scope.thread_id, scope.resource_id)]

    async def _notes(self, scope: MemoryScope) -> str | None:
        notes = scope.settings.working
        if notes is None:
            return None
        text = await working.read(self.storage, notes, scope.thread_id, scope.resource_id)
        return working.system_text(notes, text, read_only=notes.read_only or scope.settings.read_only)

    async def working_memory(self, thread_id: str, resource_id: str) -> str | None:
        """The notes. Raises `InvalidOptionError` where working memory is off."""
        return await working.read(self.storage, self._working(), thread_id, resource_id)

    async def set_working_memory(self, thread_id: str, resource_id: str, notes: str | None) -> None:
        """Replaces the notes. Raises `InvalidOptionError` where working memory is off."""
        await working.write(self.storage, self._working(), thread_id, resource_id, notes)

    def _working(self) -> WorkingMemory:
        if self.settings.working is None:
            raise InvalidOptionError("memory: working memory is off: give Memory(working_memory=True)")
        return self.settings.working

    async def save(self, scope: MemoryScope, messages: Sequence[Message]) -> None:
        """Keeps messages in the thread, in this order; those that are there already are replaced, in place.

        Raises `AccessDeniedError`, and `ConflictError` for an id that is taken in another thread.
        """
        if not scope.writes:
            return
        lasting = [message for message in messages if not is_transient(message)]
        kept = [each for each in (working.without_updates(message) for message in lasting) if each is not None]
        if not kept:
            return
        await self._enter(scope)
        await self.storage.save_messages(
            [
                msgspec.structs.replace(message, thread_id=scope.thread_id, resource_id=scope.resource_id)
                for message in kept
            ]
        )

    def needs_finish(self, scope: MemoryScope) -> bool:
        """Whether something is left to do when a run ends: to make its messages findable, to find a title."""
        return scope.writes and (scope.settings.recall is not None or scope.settings.titles is not None)

    async def finish(self, scope: MemoryScope, messages: Sequence[Message]) -> None:
        """Makes the messages of a run findable by meaning. Raises `EmbeddingError`."""
        if scope.writes and scope.settings.recall is not None and self.embedder is not None:
            await recall.index(self.storage, self.embedder, messages)

    async def title_prompt(self, scope: MemoryScope, messages: Sequence[Message]) -> TitlePrompt | None:
        """What to ask a model for a title; None where the thread has one, or needs none."""
        if scope.settings.titles is None or not scope.writes:
            return None
        thread = await self.storage.thread(scope.thread_id)
        if thread is None or thread.title:
            return None
        return titles.prompt(scope.settings.titles, messages)

    async def set_title(self, scope: MemoryScope, answer: str) -> str:
        """Takes a title from what a model answered; gives it back as it is kept."""
        title = titles.cleaned(answer)
        if title:
            await self.storage.update_thread(scope.thread_id, title=title)
        return title

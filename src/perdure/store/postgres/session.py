"""One transaction's decisions, driven over a connection, in as few round trips as their reads allow.

A mutation is answered at once and written no later than the next read, with all others of its kind. Writes change
places only where their tables say that the order makes no difference. Guarded writes (those that take effect only
under a lease) are answered by the rows that they return; until then their decisions stand still, and others go on.
The result is as if each decision had run alone, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import msgspec

from perdure.engine import reads
from perdure.engine.mutations import EndLeasedRun, Mutation, PutPause, RecordStep
from perdure.engine.turn import Decision, Read
from perdure.store.postgres.blobs import Blobs, unpack
from perdure.store.postgres.statements import QUERIES, WRITES

if TYPE_CHECKING:
    from asyncpg import Connection

T = TypeVar("T")
Row: TypeAlias = tuple[Any, ...]
GUARDED: Final[tuple[type[Mutation], ...]] = (RecordStep, EndLeasedRun)


class PauseNames:
    """The event names that pauses wait for, or have waited for: asking for others needs no statement.

    Sound inside a transaction that has `enter`ed with `seq`. Names are only added, so one too many does no harm.
    """

    def __init__(self) -> None:
        self.seq = 0
        self._names: set[str] = set()

    def learn(self, rows: Iterable[Row]) -> None:
        for seq, name in rows:
            self.seq = max(self.seq, seq)
            self._names.add(name)

    def add(self, pause: PutPause) -> None:
        if pause.kind in ("event", "cancel"):
            self._names.add(pause.name)

    def may_hold(self, names: Row) -> bool:
        return not self._names.isdisjoint(names)


async def drive(connection: Connection[Any], decision: Decision[T]) -> T:
    """Runs a decision that only reads; raises `TypeError` at a mutation."""
    try:
        item = next(decision)
        while True:
            if not isinstance(item, Read):
                raise TypeError(f"{type(item).__name__} in a decision that only reads")
            item = decision.send(await rows_of(connection, item))
    except StopIteration as stop:
        result: T = stop.value
        return result


async def rows_of(connection: Connection[Any], read: Read) -> list[Row]:
    """The rows of a read, blobs included."""
    query = QUERIES[read.name]
    found: list[Row] = [tuple(row) for row in await connection.fetch(query.sql, *read.params)]
    return await unpack(connection, found) if query.payload else found


class _Group:
    """Mutations of one kind that will be one statement, by what tells them apart."""

    __slots__ = ("kind", "rows", "write")

    def __init__(self, kind: type[Mutation]) -> None:
        self.kind = kind
        self.write = WRITES[kind]
        self.rows: dict[Row, Row] = {}

    async def execute(self, connection: Connection[Any], news: dict[str, None]) -> set[Row]:
        """Writes them, and adds to the news; what tells those apart that took effect, for guarded ones."""
        if not self.kind.__struct_fields__:
            await connection.execute(self.write.sql)
            return set()
        found = await connection.fetch(self.write.sql, *zip(*self.rows.values(), strict=True))
        if self.write.tells:
            news.update({row[-1]: None for row in found if row[-1] is not None})
        return {tuple(row)[: len(self.write.by)] for row in found} if self.kind in GUARDED else set()


class _Pending:
    """A decision under way: its place in the results, and the guarded write whose answer it waits for."""

    __slots__ = ("decision", "guarded", "place")

    def __init__(self, place: int, decision: Decision[Any]) -> None:
        self.place = place
        self.decision = decision
        self.guarded: tuple[type[Mutation], Row] | None = None


class Session:
    """Runs the decisions of one transaction. Use: `add` each, then `finish` for their results in that order."""

    def __init__(self, connection: Connection[Any], names: PauseNames) -> None:
        self._connection = connection
        self._names = names
        self._groups: list[_Group] = []
        self._blobs = Blobs()
        self._waiting: list[_Pending] = []
        self._results: list[Any] = []
        self.news: dict[str, None] = {}
        """What concerns other nodes of that which was written, each once."""

    async def add(self, decision: Decision[Any]) -> None:
        """Runs a decision as far as it goes without the answer to a guarded write."""
        pending = _Pending(len(self._results), decision)
        self._results.append(None)
        await self._run(pending, None)

    async def finish(self) -> list[Any]:
        """Writes what is left; the results of all decisions."""
        await self._flush()
        return self._results

    async def _run(self, pending: _Pending, answer: object) -> None:
        try:
            while True:
                item = pending.decision.send(answer)
                if isinstance(item, Read):
                    answer = await self._read(item)
                    continue
                row = self._gather(item)
                if isinstance(item, RecordStep | EndLeasedRun):
                    pending.guarded = (type(item), row)
                    self._waiting.append(pending)
                    return
                answer = 1
        except StopIteration as stop:
            self._results[pending.place] = stop.value

    async def _read(self, read: Read) -> list[Row]:
        if read.name == reads.PAUSE_PATHS and not self._names.may_hold(read.params):
            return []
        await self._flush()
        return await rows_of(self._connection, read)

    def _gather(self, mutation: Mutation) -> Row:
        """Keeps a mutation for later; what tells it from others of its kind."""
        kind = type(mutation)
        write = WRITES[kind]
        params: Row = msgspec.structs.astuple(mutation)
        if write.payloads and write.is_large(params):
            owner = params[write.owner]
            packed = {position: params[position] for position in write.payloads if params[position] is not None}
            packed = {position: self._blobs.pack(owner, payload) for position, payload in packed.items()}
            params = tuple([packed.get(position, value) for position, value in enumerate(params)])
        if isinstance(mutation, PutPause):
            self._names.add(mutation)
        row = write.row(params)
        for group in reversed(self._groups):
            if group.kind is kind and write.by and row not in group.rows:
                group.rows[row] = params
                return row
            if not write.commutes(group.write):
                break
        group = _Group(kind)
        group.rows[row] = params
        self._groups.append(group)
        return row

    async def _flush(self) -> None:
        while self._groups:
            groups, self._groups = self._groups, []
            waiting, self._waiting = self._waiting, []
            await self._blobs.flush(self._connection)
            kept: dict[type[Mutation], set[Row]] = {kind: set() for kind in GUARDED}
            for group in groups:
                changed = await group.execute(self._connection, self.news)
                if group.kind in kept:
                    kept[group.kind] |= changed
            for pending in waiting:
                assert pending.guarded is not None
                kind, row = pending.guarded
                await self._run(pending, int(row in kept[kind]))

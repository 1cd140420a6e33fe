"""The statements of statements.sql, made ready: what the file abbreviates is put in from the Structs that it names.

A mutation's statement takes one array for each field, so that any number of mutations of a kind is one statement.
The tables that it touches say which other mutations it may change places with.
"""

from __future__ import annotations

import re
from importlib import resources
from typing import Any, Final, NamedTuple, get_args, get_type_hints

import msgspec

from perdure.engine.agents import records as agent_records
from perdure.engine.agents.stored import records as stored_records
from perdure.engine.kinds import KINDS
from perdure.engine.mutations import PAYLOADS, Mutation
from perdure.model import records
from perdure.model.environments import EnvironmentRow
from perdure.model.limits import BLOB_THRESHOLD
from perdure.store.statements import statement_name

RECORDS: Final[dict[str, type[msgspec.Struct]]] = {
    "agent_model": stored_records.AgentModelRow,
    "agent_run": agent_records.AgentRunRow,
    "agent_version": stored_records.AgentVersionRow,
    "app": records.AppRow,
    "approval": agent_records.ApprovalRow,
    "attempt": records.Attempt,
    "begun": agent_records.BegunRow,
    "cancellation": records.Cancellation,
    "embedding": agent_records.EmbeddingRow,
    "environment": EnvironmentRow,
    "event": records.EventRow,
    "function": records.FunctionRow,
    "inbox": agent_records.InboxRow,
    "job": records.Job,
    "message": agent_records.MessageRow,
    "pause": records.Pause,
    "replay": records.Replay,
    "resource": agent_records.ResourceRow,
    "run": records.Run,
    "run_metadata": records.RunMetadata,
    "step": records.Step,
    "stored_agent": stored_records.StoredAgentRow,
    "task": agent_records.TaskRow,
    "thread": agent_records.ThreadRow,
}
"""The tables whose columns are the fields of a record, for `:columns(table)`."""

_HEADER = re.compile(r"^-- :name (\w+)( payload)?(?: by ([\w ]+))?$", re.MULTILINE)
_COLUMNS = re.compile(r":columns\((\w+)\)")
_TABLES = re.compile(r"(INSERT INTO|UPDATE|DELETE FROM|FROM|JOIN|USING) perdure\.(\w+)")
_ARRAYS: Final[dict[object, str]] = {str: "text[]", int: "bigint[]", float: "double precision[]", bytes: "bytea[]"}


class Query(NamedTuple):
    """A read. `payload`: its rows may hold references to blobs."""

    sql: str
    payload: bool


class Write:
    """How a kind of mutation is written: its SQL, what tells its rows apart, where its owner and payloads stand.

    `tells`: its last column has the news that it tells other nodes.
    """

    __slots__ = ("by", "owner", "payloads", "reads", "sql", "tells", "writes")

    def __init__(self, kind: type[Mutation], sql: str, by: tuple[str, ...]) -> None:
        fields = kind.__struct_fields__
        self.sql = _with_fields(sql, kind, by)
        self.by = tuple(fields.index(name) for name in by)
        owner, payloads = PAYLOADS.get(kind, ("", ()))
        self.owner = fields.index(owner) if owner else -1
        self.payloads = tuple(fields.index(name) for name in payloads)
        self.tells = "perdure.tell_" in sql
        touched = _TABLES.findall(sql)
        self.writes = frozenset(table for how, table in touched if how in ("INSERT INTO", "UPDATE", "DELETE FROM"))
        self.reads = frozenset(table for _, table in touched)

    def row(self, params: tuple[Any, ...]) -> tuple[Any, ...]:
        """What tells these parameters from others of the kind."""
        return tuple([params[position] for position in self.by])

    def is_large(self, params: tuple[Any, ...]) -> bool:
        """Whether a payload has to become a blob."""
        for position in self.payloads:
            if params[position] is not None and len(params[position]) > BLOB_THRESHOLD:
                return True
        return False

    def commutes(self, other: Write) -> bool:
        """Whether the order of the two makes no difference."""
        return self.writes.isdisjoint(other.reads) and other.writes.isdisjoint(self.reads)


def _with_fields(sql: str, kind: type[Mutation], by: tuple[str, ...]) -> str:
    fields = kind.__struct_fields__
    hints = get_type_hints(kind)
    arrays = ", ".join(f"${number}::{_array_type(hints[name])}" for number, name in enumerate(fields, 1))
    replaced = ", ".join(f"{name} = excluded.{name}" for name in fields if name not in by)
    given = f"unnest({arrays}) AS given ({', '.join(fields)})"
    return sql.replace(":given", given).replace(":fields", ", ".join(fields)).replace(":replace", replaced)


def _array_type(hint: object) -> str:
    options = [option for option in (get_args(hint) or (hint,)) if option is not type(None)]
    for kind in options:
        if kind in _ARRAYS:
            return _ARRAYS[kind]
    raise TypeError(f"there is no array of {hint!r}")


def _columns(match: re.Match[str]) -> str:
    table = match.group(1)
    return ", ".join(f"{table}.{name}" for name in RECORDS[table].__struct_fields__)


def _parse(text: str) -> tuple[dict[str, Query], dict[type[Mutation], Write]]:
    kinds = {statement_name(kind): kind for kind in KINDS}
    queries: dict[str, Query] = {}
    writes: dict[type[Mutation], Write] = {}
    headers = list(_HEADER.finditer(text))
    for header, following in zip(headers, [*headers[1:], None], strict=True):
        name, payload, by = header.groups()
        if name in queries or kinds.get(name) in writes:
            raise ValueError(f"statement {name!r} is defined twice")
        body = text[header.end() : following.start() if following else len(text)]
        sql = "\n".join(line for line in body.strip().splitlines() if not line.startswith("--"))
        if name in kinds:
            writes[kinds[name]] = Write(kinds[name], sql, tuple((by or "").split()))
        else:
            queries[name] = Query(_COLUMNS.sub(_columns, sql), payload is not None)
    return queries, writes


_FILES = resources.files("perdure.store.postgres")
QUERIES, WRITES = _parse(
    "\n".join((_FILES / name).read_text() for name in ("statements.sql", "agents.sql", "stored.sql"))
)

"""From the text of a query to its answer: parsed, bounded, validated, executed; errors told as GraphQL tells them.

A document is checked once and kept, because test suites and tools ask the same again and again. What goes wrong
unexpectedly is logged, and told to nobody outside.
"""

from __future__ import annotations

import inspect
import logging
from functools import lru_cache
from importlib import resources
from typing import Final

from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    GraphQLError,
    GraphQLSchema,
    OperationType,
    build_schema,
    execute,
    get_operation_ast,
    parse,
    validate,
)

from perdure.model.errors import StoreError
from perdure.model.json import Json
from perdure.model.roles import Role
from perdure.server.backend import Backend
from perdure.server.graphql import limits
from perdure.server.graphql.reader import Reader
from perdure.server.graphql.resolvers import root

_log = logging.getLogger("perdure.server")
_MAX_QUERY: Final = 64 * 1024
_MAX_ERRORS: Final = 20
_ACTS_ON_RUNS: Final = frozenset({"invokeFunction", "cancelRun", "rerun"})


async def answer(backend: Backend, query: str, variables: dict[str, Json], operation: str | None) -> Json:
    """The body of the answer: {"data"} and {"errors"} where there are any."""
    document = _document(query) if len(query) <= _MAX_QUERY else _too_long()
    if not isinstance(document, DocumentNode):
        return {"errors": [error.formatted for error in document], "data": None}
    root_value = root(Reader(backend))
    result = execute(schema(), document, root_value, variable_values=variables, operation_name=operation)
    if inspect.isawaitable(result):
        result = await result
    return _body(result)


def role_for(query: str, operation: str | None) -> Role:
    """The role that a request asks for: to read is for viewers, and of what changes something apps are for admins."""
    document = _document(query) if len(query) <= _MAX_QUERY else None
    if not isinstance(document, DocumentNode):
        # It is not executed, only told what is wrong.
        return Role.VIEWER
    found = get_operation_ast(document, operation)
    if found is None or found.operation is not OperationType.MUTATION:
        return Role.VIEWER
    fields = found.selection_set.selections
    acts = all(isinstance(field, FieldNode) and field.name.value in _ACTS_ON_RUNS for field in fields)
    return Role.OPERATOR if acts else Role.ADMIN


@lru_cache(maxsize=1)
def schema() -> GraphQLSchema:
    """What can be asked."""
    text = (resources.files("perdure.server.graphql") / "schema.graphql").read_text(encoding="utf-8")
    return build_schema(text)


@lru_cache(maxsize=64)
def _document(query: str) -> DocumentNode | list[GraphQLError]:
    """The query, ready to be executed; or what is wrong with it."""
    try:
        document = parse(query, max_tokens=limits.MAX_TOKENS)
        limits.check(document)
        return validate(schema(), document, max_errors=_MAX_ERRORS) or document
    except GraphQLError as error:
        return [error]
    except RecursionError:
        return [GraphQLError("the query is nested too deeply")]


def _too_long() -> list[GraphQLError]:
    return [GraphQLError(f"the query is longer than {_MAX_QUERY} characters; give values as variables")]


def _body(result: ExecutionResult) -> Json:
    body: dict[str, Json] = {"data": result.data}
    if result.errors:
        body["errors"] = [_told(error) for error in result.errors]
    return body


def _told(error: GraphQLError) -> Json:
    cause = error.original_error
    shown = error.formatted
    if isinstance(cause, StoreError):
        _log.error("GraphQL: the store failed: %s", cause)
        return {**shown, "message": "the store cannot answer now; try again later"}
    if cause is not None and not isinstance(cause, GraphQLError):
        _log.error("a GraphQL field failed unexpectedly", exc_info=cause)
        return {**shown, "message": "internal server error"}
    return shown

"""What a query may ask for: how deep, and how many fields once its fragments are spread. Checked before anything runs.

Without it a text of a few lines can ask for millions of fields, since fragments multiply. What the reads behind the
fields may cost is the `Reader`'s to bound.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
)

MAX_TOKENS: Final = 5000
MAX_DEPTH: Final = 25
MAX_FIELDS: Final = 1000
MAX_FRAGMENTS: Final = 50
MAX_SAME: Final = 20
"""Fields under one name in one place: validation compares each with each other, and with all that is below them."""


class Size(NamedTuple):
    """Of a selection with its fragments spread: all fields, levels, and how often each name is asked for at its top."""

    fields: int
    depth: int
    names: Counter[str]


def check(document: DocumentNode) -> None:
    """Raises `GraphQLError` for a document that asks for too much, or whose fragments contain themselves."""
    fragments = {part.name.value: part for part in document.definitions if isinstance(part, FragmentDefinitionNode)}
    if len(fragments) > MAX_FRAGMENTS:
        raise GraphQLError(f"the query has more than {MAX_FRAGMENTS} fragments")
    measure = _Measure(fragments)
    for part in document.definitions:
        if isinstance(part, OperationDefinitionNode | FragmentDefinitionNode):
            measure.selections(part.selection_set)


class _Measure:
    """Sizes of selections; each fragment is measured once."""

    def __init__(self, fragments: dict[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments
        self._known: dict[str, Size | None] = {}

    def selections(self, selection: SelectionSetNode | None) -> Size:
        fields, depth, names = 0, 0, Counter[str]()
        for node in selection.selections if selection else ():
            inner = self._part(node)
            fields, depth = fields + inner.fields, max(depth, inner.depth)
            names.update(inner.names)
        if fields > MAX_FIELDS:
            raise GraphQLError(f"the query asks for more than {MAX_FIELDS} fields; ask in several requests")
        if depth > MAX_DEPTH:
            raise GraphQLError(f"the query is nested more than {MAX_DEPTH} levels deep")
        for name, count in names.most_common(1):
            if count > MAX_SAME:
                raise GraphQLError(f"the query asks for {name!r} more than {MAX_SAME} times in one place")
        return Size(fields, depth, names)

    def _part(self, node: object) -> Size:
        if isinstance(node, FieldNode):
            inner = self.selections(node.selection_set)
            name = node.alias.value if node.alias else node.name.value
            return Size(inner.fields + 1, inner.depth + 1, Counter((name,)))
        if isinstance(node, FragmentSpreadNode):
            return self._fragment(node.name.value)
        return self.selections(node.selection_set if isinstance(node, InlineFragmentNode) else None)

    def _fragment(self, name: str) -> Size:
        if name not in self._known:
            fragment = self._fragments.get(name)
            self._known[name] = None
            # One that is not there is validation's to report.
            self._known[name] = self.selections(fragment.selection_set if fragment else None)
        known = self._known[name]
        if known is None:
            raise GraphQLError(f"fragment {name!r} contains itself")
        return known

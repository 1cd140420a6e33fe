"""Whatever a step gave: what a server writes of it into a call, a served app reads back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perdure.model import json
from perdure.model.json import Json
from perdure.model.ops import INVOKE, STEP_RUN, WAIT_FOR_SIGNAL
from perdure.serving.incoming import memo_of
from perdure.wire.memos import memo_of as written_memo

# The words of memos themselves, for a value may hold them too.
_KEYS = st.sampled_from(["data", "error", "input", "name", "x"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_KEYS, inner),
    max_leaves=5,
)


@given(_VALUES, st.sampled_from([STEP_RUN, INVOKE, WAIT_FOR_SIGNAL]))
def test_what_a_server_writes_is_read_back(value: Json, op: str) -> None:
    memo = memo_of(written_memo(op, json.encode(value), failed=False))
    assert memo is not None and not memo.failed and json.decode(memo.data) == value

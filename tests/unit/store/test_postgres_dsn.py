"""Connection strings of PostgreSQL: what is shown of them, and what is wrong with one that means something else."""

from __future__ import annotations

import pytest

from perdure.model.errors import StoreError
from perdure.store.naming import make_store, shown

pytest.importorskip("asyncpg")


@pytest.mark.parametrize("password", ["se/cret", "se#cret", "se?cret", "6379/secret"])
def test_a_password_that_breaks_the_url_is_refused_and_not_shown(password: str) -> None:
    url = f"postgresql://app:{password}@db/shop"
    assert shown(url) == "postgresql://***"
    with pytest.raises(StoreError, match="percent-encoded") as refused:
        make_store(url)
    assert "cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://app:s%2Fcret@db/shop", "postgresql://app:***@db/shop"),
        ("postgresql://app:secret@one:5432,two:5433/shop", "postgresql://app:***@one:5432,two:5433/shop"),
        ("postgresql://app@[::1]:5432/shop", "postgresql://app@[::1]:5432/shop"),
        ("postgresql://%2Frun%2Fpg/shop", "postgresql://%2Frun%2Fpg/shop"),
    ],
)
def test_any_other_is_shown_without_its_password(url: str, expected: str) -> None:
    assert shown(url) == expected
    make_store(url)

"""Moving everything that a database holds into an empty one, between files and PostgreSQL."""

from __future__ import annotations

from perdure.store.copying.copy import Copied, copy_database

__all__ = ["Copied", "copy_database"]

"""Apps written with the protocol's own SDKs, unchanged from how a user would write them; each runs in a process."""

from __future__ import annotations

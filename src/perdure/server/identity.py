"""The ids under which functions and apps appear on the wire.

A function's slug is `<app>-<function>`; v1 names functions and apps by UUIDs made from slug and app id, v2 by app
id and the short id.
"""

from __future__ import annotations

from perdure.engine.catalogue import Catalogue
from perdure.wire.identity import NO_ID, uuid_of

__all__ = ["NO_ID", "short_id", "slugs_of", "uuid_of"]


def short_id(slug: str, app_id: str) -> str:
    """A function's id within its app.

    >>> short_id("shop-fulfil", "shop")
    'fulfil'
    """
    return slug.removeprefix(app_id + "-")


def slugs_of(catalogue: Catalogue, named: list[str], apps: list[str]) -> list[str]:
    """The slugs that names stand for: slugs themselves, or short ids in the given apps (in any, if none is given).

    A name that nothing answers to stays as it is: it may be the slug of a function that is no longer registered.
    """
    slugs: list[str] = []
    for name in named:
        found = [
            function.id
            for function in catalogue.functions.values()
            if name in (function.id, short_id(function.id, function.app_id)) and (not apps or function.app_id in apps)
        ]
        slugs += found or [name, *(f"{app}-{name}" for app in apps)]
    return slugs

"""The ids that the protocol has for accounts, environments, apps and functions.

A server of one's own has one account and one environment, always the same two. Functions and apps are named by
UUIDs made from the slug of a function and the id of an app.
"""

from __future__ import annotations

from typing import Final
from uuid import NAMESPACE_OID, uuid5

from perdure.model.environments import MAIN_ID

NO_ID: Final = "00000000-0000-0000-0000-000000000000"
ACCOUNT_ID: Final = "00000000-0000-4000-a000-000000000000"
ENVIRONMENT_ID: Final = MAIN_ID


def uuid_of(slug: str) -> str:
    """The UUID of a function (by its slug) or an app (by its id).

    >>> uuid_of("cap-app")
    '8f20186b-30e2-5a81-b5cc-e2847bf30195'
    """
    return str(uuid5(NAMESPACE_OID, slug))

"""Roles: what whoever calls a server may do. Each includes those below it.

Keys have roles (`model/keys.py`); which role an operation asks for is said in the operation catalogue.
"""

from __future__ import annotations

from enum import IntEnum

from perdure.model.errors import ConfigError


class Role(IntEnum):
    """A viewer reads, an operator also acts on runs and sends events, an admin may do everything.

    >>> Role.OPERATOR.allows(Role.VIEWER), Role.VIEWER.allows(Role.OPERATOR)
    (True, False)
    """

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        """How the role is written: "viewer", "operator", "admin"."""
        return self.name.lower()

    def allows(self, needed: Role) -> bool:
        """Whether whoever has this role may do what asks for another."""
        return self >= needed

    @classmethod
    def parse(cls, word: str, *, named: str = "role") -> Role:
        """Reads a role's word; raises `ConfigError`, in which it is called `named`.

        >>> Role.parse("viewer")
        <Role.VIEWER: 1>
        """
        for role in cls:
            if role.word == word:
                return role
        raise ConfigError(named, [f"must begin with a role: {', '.join(role.word for role in cls)}"])

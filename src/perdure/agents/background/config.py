"""Which calls run in the background: what tools and agents say, and what the model asks for in one call.

A tool is eligible by its own declaration (`@tool(background=...)`) or by its agent's (`BackgroundConfig`). The
model may override the disposition of a call by `_background` in its arguments; of other tools that field is taken out
and means nothing. What is decided is recorded with the model's answer (`Plan`), so that a replay decides the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from perdure.agents.tools import Background, Tool
from perdure.model.json import Json
from perdure.model.limits import MAX_RETRIES

OVERRIDE: Final = "_background"
DEFAULT_TIMEOUT: Final = 300_000
"""How long (ms) one attempt of a task may take."""
DEFAULT_IDLE: Final = 300_000
"""How long (ms) a run waits between two turns for its tasks (`until_idle`)."""
MAX_TIMEOUT: Final = 24 * 3600 * 1000
GLOBAL_LIMIT: Final = 10
AGENT_LIMIT: Final = 5
Disposition = Literal["deferred", "awaited", "foreground"]
_DISPOSITIONS: Final = ("deferred", "awaited", "foreground")


class BackgroundConfig(msgspec.Struct, frozen=True):
    """What an agent says about its tools: `tools` is "all", or says of each by name whether and how.

    `disabled` turns it all off. `wait_timeout` (ms) is how long a turn waits for an awaited call before it goes on
    without it; None: as long as the task takes.

    >>> BackgroundConfig({"research": True}).tools
    {'research': True}
    """

    tools: Literal["all"] | Mapping[str, bool | Background] = {}
    disabled: bool = False
    wait_timeout: int | None = None

    def problems(self) -> list[str]:
        """What is wrong with it."""
        found: list[str] = []
        tools: Json = self.tools
        if tools != "all" and not isinstance(tools, Mapping):
            found.append(f'background_tasks.tools: must be "all" or say of tools by name, got {tools!r}')
        elif tools != "all":
            found += [
                f"background_tasks.tools.{name}: must be True, False or Background(...), got {value!r}"
                for name, value in tools.items()
                if not isinstance(value, bool | Background)
            ]
        if self.wait_timeout is not None and (type(self.wait_timeout) is not int or self.wait_timeout <= 0):
            found.append(f"background_tasks.wait_timeout: must be more than 0 ms, got {self.wait_timeout!r}")
        return found


class Plan(msgspec.Struct, rename="camel"):
    """How one call runs in the background: waited for or not; ms for one attempt, and retries."""

    disposition: Literal["deferred", "awaited"]
    timeout: int
    retries: int

    @classmethod
    def from_json(cls, plain: Json) -> Plan:
        """What `msgspec.to_builtins` gave."""
        return msgspec.convert(plain, cls)


def eligible(config: BackgroundConfig | None, name: str, found: Tool | None) -> Background | None:
    """How calls of a tool may run in the background, None where they may not."""
    if found is None or found.is_client_tool or (config is not None and config.disabled):
        return None
    own: Background | None = found.background
    if config is None:
        return own
    said = True if config.tools == "all" else config.tools.get(name)
    if said is None:
        return own
    if isinstance(said, Background):
        return said
    return (own or Background()) if said else None


def plan_of(allowed: Background | None, asked: Json) -> Plan | None:
    """How a call is to run, given what the model asked for it; None in the foreground."""
    if allowed is None:
        return None
    wish: dict[str, Json] = asked if isinstance(asked, dict) else {}
    disposition: str = allowed.disposition
    if wish.get("disposition") in _DISPOSITIONS:
        disposition = wish["disposition"]
    elif isinstance(wish.get("enabled"), bool):
        disposition = "deferred" if wish["enabled"] else "foreground"
    if disposition == "foreground":
        return None
    timeout = _whole(wish.get("timeoutMs"), 1, MAX_TIMEOUT) or allowed.timeout or DEFAULT_TIMEOUT
    retries = _whole(wish.get("maxRetries"), 0, MAX_RETRIES)
    if retries is None:
        retries = allowed.retries or 0
    return Plan("awaited" if disposition == "awaited" else "deferred", timeout, retries)


def max_idle(until_idle: Json) -> int | None:
    """How long (ms) a run waits for its tasks between turns; None where it does not wait."""
    if isinstance(until_idle, dict):
        given: Json = until_idle.get("maxIdleMs", until_idle.get("max_idle_ms", DEFAULT_IDLE))
        return int(given)
    return DEFAULT_IDLE if until_idle else None


def bad_until_idle(until_idle: Json) -> str | None:
    """What is wrong with the option `until_idle`, if anything is."""
    if isinstance(until_idle, bool) or until_idle is None:
        return None
    if not isinstance(until_idle, dict) or until_idle.keys() - {"maxIdleMs", "max_idle_ms"}:
        return f'must be True, False or {{"max_idle_ms": ...}}, got {until_idle!r}'
    for value in until_idle.values():
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 1:
            return f"max_idle_ms: must be 1 or more, got {value!r}"
    return None


def _whole(value: Json, least: int, most: int) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
        return None
    return min(int(value), most)

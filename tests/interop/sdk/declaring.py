"""How the Python catalogues with async handlers declare their functions."""

from __future__ import annotations

import datetime
import time
from collections.abc import Awaitable, Callable
from typing import Any

import inngest

Handler = Callable[[inngest.Context], Awaitable[Any]]
Decorator = Callable[[Handler], inngest.Function[Any]]
SECOND, HOUR = datetime.timedelta(seconds=1), datetime.timedelta(hours=1)
MINUTE = datetime.timedelta(minutes=1)


class Catalogue:
    """Functions of one client, each under the event of its name; `functions` is what is served."""

    def __init__(self, client: inngest.Inngest) -> None:
        self.client = client
        self.app = client.app_id
        self.functions: list[inngest.Function[Any]] = []

    def add(
        self, id: str, *, event: str = "", cron: str = "", if_: str | None = None, retries: int = 0, **options: Any
    ) -> Decorator:
        """A decorator that makes a function; its trigger is the event `<app>/<id>` unless another is named."""
        name = event or f"{self.app}/{id}"
        trigger = inngest.TriggerCron(cron=cron) if cron else inngest.TriggerEvent(event=name, expression=if_)

        def made(handler: Handler) -> inngest.Function[Any]:
            decorate = self.client.create_function(fn_id=id, trigger=trigger, retries=retries, **options)
            self.functions.append(decorate(handler))
            return self.functions[-1]

        return made


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def data_of(ctx: inngest.Context) -> Any:
    return ctx.event.data

"""perdure: durable execution and durable agents for Python.

>>> app = App("shop")
>>> @app.function("greet", trigger="shop/customer.created")
... async def greet(ctx: Context) -> str:
...     name = await step.run("look up", look_up, ctx.event.data["id"])
...     await step.sleep("a moment", "1h")
...     return f"Hello, {name}!"
"""

from __future__ import annotations

from perdure import sync
from perdure.embedding import embedded, lifespan
from perdure.engine.retention import Retention
from perdure.model.config import (
    BatchEvents,
    CancelOn,
    Concurrency,
    Cron,
    Debounce,
    EventTrigger,
    Priority,
    RateLimit,
    Singleton,
    Throttle,
    Timeouts,
    on,
)
from perdure.model.errors import (
    ConfigError,
    NonRetriableError,
    NotFoundError,
    PerdureError,
    RefusedError,
    RetryAfterError,
    RunCancelledError,
    RunError,
    RunFailedError,
    StepError,
    StoreError,
    StoreLockedError,
)
from perdure.model.event import Event, EventError
from perdure.node import Node
from perdure.runner.handle import RunHandle
from perdure.sdk.app import App
from perdure.sdk.context import Context
from perdure.sdk.function import Function
from perdure.sdk.inference import AiModel
from perdure.sdk.mcp import McpServer
from perdure.sdk.step import step
from perdure.sdk.stream import stream
from perdure.serving import serve

__all__ = [
    "AiModel",
    "App",
    "BatchEvents",
    "CancelOn",
    "Concurrency",
    "ConfigError",
    "Context",
    "Cron",
    "Debounce",
    "Event",
    "EventError",
    "EventTrigger",
    "Function",
    "McpServer",
    "Node",
    "NonRetriableError",
    "NotFoundError",
    "PerdureError",
    "Priority",
    "RateLimit",
    "RefusedError",
    "Retention",
    "RetryAfterError",
    "RunCancelledError",
    "RunError",
    "RunFailedError",
    "RunHandle",
    "Singleton",
    "StepError",
    "StoreError",
    "StoreLockedError",
    "Throttle",
    "Timeouts",
    "embedded",
    "lifespan",
    "on",
    "serve",
    "step",
    "stream",
    "sync",
]

"""Functions as objects: a handler with its configuration, generic in the handler's result.

`step.invoke("x", fn)` and `engine.trigger(fn)` get their result type from here. Calling the object calls the
handler, so a handler without steps can be tested directly.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Generic, TypeAlias, TypeVar

from perdure.model.config import FunctionConfig
from perdure.model.json import Json
from perdure.sdk.callables import call_kind
from perdure.sdk.context import Context

R = TypeVar("R")
Handler: TypeAlias = Callable[[Context], Awaitable[R] | R]


class Function(Generic[R]):
    """A handler registered under a slug. Made by `@app.function`, never directly.

    `id` is the slug `<app>-<function>`, `handler` the decorated function, `returns` its return annotation,
    `is_async` whether it is a coroutine function (a plain one runs in a worker thread).
    """

    def __init__(self, config: FunctionConfig, handler: Handler[R]) -> None:
        wrapper: Json = self
        functools.update_wrapper(wrapper, handler)
        self.config = config
        self.handler = handler
        self.is_async, self.returns = call_kind(handler)

    @property
    def id(self) -> str:
        return self.config.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.config.id!r}>"


class AsyncFunction(Function[R]):
    """A function whose handler is `async def`."""

    def __init__(self, config: FunctionConfig, handler: Callable[[Context], Coroutine[Json, Json, R]]) -> None:
        super().__init__(config, handler)
        self._call = handler

    def __call__(self, ctx: Context, /) -> Coroutine[Json, Json, R]:
        return self._call(ctx)


class PlainFunction(Function[R]):
    """A function whose handler is a plain `def`; its steps are those of `perdure.sync.step`."""

    def __init__(self, config: FunctionConfig, handler: Callable[[Context], R]) -> None:
        super().__init__(config, handler)
        self._call = handler

    def __call__(self, ctx: Context, /) -> R:
        return self._call(ctx)

"""Threads of a served app: those in which plain functions run, and one with an event loop for who has none.

Both are made when first needed, and anew in a process that was forked meanwhile (servers for WSGI fork after the
app was imported): threads do not survive a fork.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from perdure.model.json import Json

T = TypeVar("T")

_MOST = 1000
"""A plain handler keeps its thread while its steps run in others: with few of them, handlers alone would take all."""
_FAREWELL = 2.0
"""How long the loop has to close its connections when the process ends (seconds)."""


class _Threads:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = 0
        self._pool: ThreadPoolExecutor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def pool(self) -> ThreadPoolExecutor:
        with self._lock:
            self._notice_fork()
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_MOST, "perdure-serve")
            return self._pool

    def loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            self._notice_fork()
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_turn, args=(self._loop,), name="perdure-serve-loop", daemon=True
                )
                self._thread.start()
                atexit.register(self._close, self._loop, self._thread)
            return self._loop

    def _notice_fork(self) -> None:
        if self._process != os.getpid():
            self._process = os.getpid()
            self._pool = self._loop = self._thread = None

    def _close(self, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
        # In a fork the handler is inherited, the thread is not.
        if thread.is_alive():
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_FAREWELL)


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


_threads = _Threads()


async def in_thread(call: Callable[[], T]) -> T:
    """Runs a plain function in a worker thread, with the caller's context variables."""
    return await asyncio.get_running_loop().run_in_executor(_threads.pool(), copy_context().run, call)


def background_loop() -> asyncio.AbstractEventLoop:
    """The event loop that runs in a thread of its own."""
    return _threads.loop()


def block_on(work: Coroutine[Json, Json, T]) -> T:
    """Runs a coroutine in the background loop and waits for it."""
    return asyncio.run_coroutine_threadsafe(work, background_loop()).result()

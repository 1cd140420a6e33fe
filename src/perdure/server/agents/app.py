"""The routes of the room: every path of the agents protocol that is answered, and its handler.

Invariant: whatever is not here is `404`, in plain text, as that protocol has it: wrong methods and slashes at the end,
too.
"""

from __future__ import annotations

from typing import Final

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from perdure.server.agents.errors import HANDLERS
from perdure.server.agents.registry import Agents
from perdure.server.agents.runs import RunHandlers
from perdure.server.agents.streams import SILENCE
from perdure.server.agents.threads import ThreadHandlers
from perdure.server.agents.tools import ToolHandlers
from perdure.server.backend import Backend

_AGENT: Final = "/api/agents/{agent}"
_THREAD: Final = "/api/memory/threads/{thread}"


def make_agents_app(backend: Backend, silence: float = SILENCE) -> ASGIApp:
    """The agents of a node as an ASGI application. `silence`: seconds after which a quiet stream says a comment."""
    agents = Agents(backend)
    application = Starlette(
        routes=[
            *_agents(ToolHandlers(agents)),
            *_runs(RunHandlers(agents, silence)),
            *_threads(ThreadHandlers(agents)),
        ],
        exception_handlers=dict(HANDLERS),
    )
    application.router.redirect_slashes = False
    return application


def _agents(tell: ToolHandlers) -> list[BaseRoute]:
    return [
        Route("/api/agents", tell.agents),
        Route(_AGENT, tell.agent),
        Route(_AGENT + "/tools/{tool}", tell.tool),
        Route(_AGENT + "/tools/{tool}/execute", tell.execute, methods=["POST"]),
    ]


def _runs(runs: RunHandlers) -> list[BaseRoute]:
    return [
        Route(_AGENT + "/generate", runs.generate, methods=["POST"]),
        Route(_AGENT + "/stream", runs.stream, methods=["POST"]),
        *(
            Route(f"{_AGENT}/{decision}-tool-call{whole}", runs.decide, methods=["POST"])
            for decision in ("approve", "decline")
            for whole in ("", "-generate")
        ),
        Route(_AGENT + "/network", runs.network, methods=["POST"]),
        Route(_AGENT + "/approve-network-tool-call", runs.decide, methods=["POST"]),
        Route(_AGENT + "/decline-network-tool-call", runs.decide, methods=["POST"]),
        Route(_AGENT + "/resume-stream", runs.resume, methods=["POST"]),
        Route(_AGENT + "/suspended-runs", runs.suspended),
        Route(_AGENT + "/observe", runs.observe, methods=["POST"]),
        Route(_AGENT + "/recover", runs.recover, methods=["POST"]),
        Route(_AGENT + "/runs/{run}/stream", runs.follow),
    ]


def _threads(threads: ThreadHandlers) -> list[BaseRoute]:
    return [
        Route("/api/memory/threads", threads.threads, methods=["GET"]),
        Route("/api/memory/threads", threads.create, methods=["POST"]),
        Route(_THREAD, threads.thread, methods=["GET"]),
        Route(_THREAD, threads.update, methods=["PATCH"]),
        Route(_THREAD, threads.delete, methods=["DELETE"]),
        Route(_THREAD + "/clone", threads.clone, methods=["POST"]),
        Route(_THREAD + "/messages", threads.messages, methods=["GET"]),
        Route(_THREAD + "/working-memory", threads.working_memory, methods=["GET"]),
        Route(_THREAD + "/working-memory", threads.set_working_memory, methods=["POST"]),
        Route("/api/memory/save-messages", threads.save_messages, methods=["POST"]),
        Route("/api/memory/messages/delete", threads.delete_messages, methods=["POST"]),
        Route("/api/memory/status", threads.status, methods=["GET"]),
        Route("/api/memory/config", threads.config, methods=["GET"]),
    ]

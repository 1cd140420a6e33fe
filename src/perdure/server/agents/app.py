"""The routes of the room: every path of the agents protocol that is answered, and its handler.

Invariant: whatever is not here is `404`, in plain text, as that protocol has it: wrong methods and slashes at the end,
too.
"""

from __future__ import annotations

from typing import Final

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from perdure.server.agents.background import BackgroundHandlers
from perdure.server.agents.callers import Callers
from perdure.server.agents.chat import ChatHandlers
from perdure.server.agents.errors import HANDLERS
from perdure.server.agents.looking import Looking
from perdure.server.agents.models import ModelHandlers
from perdure.server.agents.recall import RecallHandlers
from perdure.server.agents.registry import Agents
from perdure.server.agents.runs import RunHandlers
from perdure.server.agents.signals import SignalHandlers
from perdure.server.agents.standing import StandingHandlers
from perdure.server.agents.stored import StoredHandlers
from perdure.server.agents.streams import SILENCE
from perdure.server.agents.threads import ThreadHandlers
from perdure.server.agents.tools import ToolHandlers
from perdure.server.agents.versions import VersionHandlers
from perdure.server.backend import Backend

_AGENT: Final = "/api/agents/{agent}"
_STORED: Final = "/api/stored/agents/{stored}"


def make_agents_app(backend: Backend, silence: float = SILENCE) -> ASGIApp:
    """The agents of a node as an ASGI application. `silence`: seconds after which a quiet stream says a comment."""
    agents = Agents(backend)
    runs = RunHandlers(agents, silence)
    application = Starlette(
        routes=[
            *_models(ModelHandlers(agents)),
            *_agents(ToolHandlers(agents), StoredHandlers(agents)),
            *_stored(StoredHandlers(agents), VersionHandlers(agents)),
            *_runs(runs),
            *_standing(StandingHandlers(agents)),
            *_chats(ChatHandlers(agents, runs, silence)),
            *_signals(SignalHandlers(agents, silence)),
            *_background(BackgroundHandlers(agents, silence)),
            *_threads(ThreadHandlers(agents), RecallHandlers(agents)),
        ],
        exception_handlers=dict(HANDLERS),
    )
    application.router.redirect_slashes = False
    return Callers(Looking(application, agents), backend, agents.owner_of)


def _models(models: ModelHandlers) -> list[BaseRoute]:
    return [
        Route("/api/agents/providers", models.providers),
        Route(_AGENT + "/model", models.choose, methods=["POST"]),
        Route(_AGENT + "/model/reset", models.reset, methods=["POST"]),
        Route(_AGENT + "/models/reorder", models.reorder, methods=["POST"]),
        Route(_AGENT + "/models/{config}", models.change, methods=["POST"]),
    ]


def _stored(stored: StoredHandlers, versions: VersionHandlers) -> list[BaseRoute]:
    return [
        Route("/api/stored/agents", stored.page, methods=["GET"]),
        Route("/api/stored/agents", stored.create, methods=["POST"]),
        Route(_STORED, stored.get, methods=["GET"]),
        Route(_STORED, stored.update, methods=["PATCH"]),
        Route(_STORED, stored.delete, methods=["DELETE"]),
        Route(_STORED + "/dependents", stored.dependents),
        Route(_STORED + "/export", stored.export, methods=["POST"]),
        Route(_STORED + "/versions", versions.page, methods=["GET"]),
        Route(_STORED + "/versions", versions.create, methods=["POST"]),
        Route(_STORED + "/versions/compare", versions.compare, methods=["GET"]),
        Route(_STORED + "/versions/{version}", versions.get, methods=["GET"]),
        Route(_STORED + "/versions/{version}", versions.delete, methods=["DELETE"]),
        Route(_STORED + "/versions/{version}/activate", versions.activate, methods=["POST"]),
        Route(_STORED + "/versions/{version}/restore", versions.restore, methods=["POST"]),
    ]


def _agents(tell: ToolHandlers, stored: StoredHandlers) -> list[BaseRoute]:
    return [
        Route("/api/agents", tell.agents),
        Route(_AGENT, tell.agent),
        Route(_AGENT + "/clone", stored.clone, methods=["POST"]),
        Route(_AGENT + "/tools/{tool}", tell.tool),
        Route(_AGENT + "/tools/{tool}/execute", tell.execute, methods=["POST"]),
        Route("/api/tools", tell.tools),
        Route("/api/tools/{tool}", tell.any_tool),
        Route("/api/tools/{tool}/execute", tell.execute_any, methods=["POST"]),
    ]


def _runs(runs: RunHandlers) -> list[BaseRoute]:
    return [
        Route(_AGENT + "/generate", runs.generate, methods=["POST"]),
        Route(_AGENT + "/stream", runs.stream, methods=["POST"]),
        Route(_AGENT + "/stream-until-idle", runs.stream_until_idle, methods=["POST"]),
        *(
            Route(f"{_AGENT}/{decision}-tool-call{whole}", runs.decide, methods=["POST"])
            for decision in ("approve", "decline")
            for whole in ("", "-generate")
        ),
        Route(_AGENT + "/network", runs.network, methods=["POST"]),
        Route(_AGENT + "/approve-network-tool-call", runs.decide, methods=["POST"]),
        Route(_AGENT + "/decline-network-tool-call", runs.decide, methods=["POST"]),
        Route(_AGENT + "/resume-stream", runs.resume, methods=["POST"]),
        Route(_AGENT + "/resume-stream-until-idle", runs.resume, methods=["POST"]),
        Route(_AGENT + "/suspended-runs", runs.suspended),
        Route(_AGENT + "/observe", runs.observe, methods=["POST"]),
        Route(_AGENT + "/recover", runs.recover, methods=["POST"]),
        Route(_AGENT + "/runs/{run}/stream", runs.follow),
    ]


def _standing(tell: StandingHandlers) -> list[BaseRoute]:
    return [
        Route(_AGENT + "/runs/{run}", tell.run),
        Route(_AGENT + "/runs/{run}/abort", tell.abort, methods=["POST"]),
    ]


def _chats(chats: ChatHandlers) -> list[BaseRoute]:
    return [
        Route("/chat/{agent}", chats.chat, methods=["POST"]),
        Route("/chat/{agent}/{chat}/stream", chats.again, methods=["GET"]),
        Route("/chat/{chat}/stream", chats.again, methods=["GET"]),
        Route("/network/{agent}", chats.network, methods=["POST"]),
    ]


def _signals(tell: SignalHandlers) -> list[BaseRoute]:
    return [
        Route(_AGENT + "/signals", tell.send, methods=["POST"]),
        Route(_AGENT + "/send-message", tell.message, methods=["POST"]),
        Route(_AGENT + "/queue-message", tell.queue, methods=["POST"]),
        Route(_AGENT + "/send-tool-approval", tell.answer, methods=["POST"]),
        Route(_AGENT + "/threads/subscribe", tell.subscribe, methods=["POST"]),
        Route(_AGENT + "/threads/abort", tell.abort, methods=["POST"]),
    ]


def _background(tell: BackgroundHandlers) -> list[BaseRoute]:
    return [
        Route("/api/background-tasks", tell.tasks),
        Route("/api/background-tasks/stream", tell.stream),
        Route("/api/background-tasks/{task}", tell.task),
        Route("/api/background-tasks/{task}/cancel", tell.cancel, methods=["POST"]),
        Route("/api/background-tasks/{task}/resume", tell.resume, methods=["POST"]),
    ]


def _threads(threads: ThreadHandlers, recall: RecallHandlers) -> list[BaseRoute]:
    return [
        *_kept("/api/memory", threads, recall),
        # The memory of a network is that of its agent.
        *_kept("/api/memory/network", threads, recall),
        Route("/api/memory/config", threads.config, methods=["GET"]),
        Route("/api/memory/search", recall.search, methods=["GET"]),
        Route("/api/memory/observational-memory", threads.observational, methods=["GET"]),
        Route("/api/memory/observational-memory/buffer-status", threads.observational, methods=["POST"]),
    ]


def _kept(memory: str, threads: ThreadHandlers, recall: RecallHandlers) -> list[BaseRoute]:
    thread = memory + "/threads/{thread}"
    return [
        Route(memory + "/threads", threads.threads, methods=["GET"]),
        Route(memory + "/threads", threads.create, methods=["POST"]),
        Route(thread, threads.thread, methods=["GET"]),
        Route(thread, threads.update, methods=["PATCH"]),
        Route(thread, threads.delete, methods=["DELETE"]),
        Route(thread + "/clone", threads.clone, methods=["POST"]),
        Route(thread + "/transfer", threads.transfer, methods=["POST"]),
        Route(thread + "/messages", recall.messages, methods=["GET"]),
        Route(thread + "/working-memory", threads.working_memory, methods=["GET"]),
        Route(thread + "/working-memory", threads.set_working_memory, methods=["POST"]),
        Route(memory + "/save-messages", threads.save_messages, methods=["POST"]),
        Route(memory + "/messages/delete", threads.delete_messages, methods=["POST"]),
        Route(memory + "/status", threads.status, methods=["GET"]),
    ]

"""Clients of agents: `Client.agent(...)` and what it gives."""

from __future__ import annotations

from perdure.client.agents.agent import AgentClient
from perdure.client.agents.api import AgentsApi
from perdure.client.agents.chunks import (
    AgentChunk,
    ApprovalRequest,
    BackgroundTask,
    DataChunk,
    ErrorChunk,
    Finish,
    ObjectChunk,
    ReasoningDelta,
    Start,
    StepFinish,
    Suspended,
    TextDelta,
    ToolCall,
    ToolDenied,
    ToolError,
    ToolOutput,
    ToolResult,
)
from perdure.client.agents.following import RunReader, ThreadSubscription
from perdure.client.agents.memory import MemoryClient, ThreadClient
from perdure.client.agents.result import AgentResult
from perdure.client.agents.stored import StoredAgentClient, StoredAgents
from perdure.client.agents.stream import AgentStream
from perdure.client.agents.tasks import BackgroundTasks
from perdure.client.agents.tools import ClientTool

__all__ = [
    "AgentChunk",
    "AgentClient",
    "AgentResult",
    "AgentStream",
    "AgentsApi",
    "ApprovalRequest",
    "BackgroundTask",
    "BackgroundTasks",
    "ClientTool",
    "DataChunk",
    "ErrorChunk",
    "Finish",
    "MemoryClient",
    "ObjectChunk",
    "ReasoningDelta",
    "RunReader",
    "Start",
    "StepFinish",
    "StoredAgentClient",
    "StoredAgents",
    "Suspended",
    "TextDelta",
    "ThreadClient",
    "ThreadSubscription",
    "ToolCall",
    "ToolDenied",
    "ToolError",
    "ToolOutput",
    "ToolResult",
]

"""Gates: which calls of tools need approval.

A function of the tool overrides everything else; otherwise either the run's rule or the tool's asks for approval.

Invariant: a rule that fails, or that is not there any more, means that approval is needed.
"""

from __future__ import annotations

from perdure.agents.messages import ToolInvocation
from perdure.agents.run import Run, decided
from perdure.agents.tools import Tool
from perdure.model.json import Json


async def needs_approval(run: Run, call: ToolInvocation, found: Tool | None) -> bool:
    """Whether a call needs approval. Inside a step, which records the answer: rules may look anywhere."""
    if found is not None and found.is_client_tool:
        return False
    own: Json = False if found is None else found.requires_approval
    rules: list[Json] = [own] if callable(own) else [run.options.require_tool_approval, own]
    for rule in rules:
        if rule is True or (rule and await _asks(run, rule, call)):
            return True
    return False


async def _asks(run: Run, rule: Json, call: ToolInvocation) -> bool:
    policy = run.policy(rule) if isinstance(rule, str) else rule
    if policy is None:
        return True
    shown = {"toolCallId": call.tool_call_id, "toolName": call.tool_name, "args": call.args or {}}
    shown |= {"runId": run.run_id, "requestContext": run.options.request_context}
    try:
        return bool(await decided(policy, call.args or {}, shown))
    except Exception:
        # A rule is the user's, and may fail in any way; one that cannot be asked must not let a call through.
        return True

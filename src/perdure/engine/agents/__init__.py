"""What the engine keeps for agents: threads and messages, runs as callers know them, approvals, signals, tasks."""

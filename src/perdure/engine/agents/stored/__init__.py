"""Stored agents: agents whose configuration is data, its versions, and which of them is in force."""

"""Calls that become background tasks, and results that come back: what the loop does about them."""

"""Durable agents: instructions, a model, tools and memory, whose runs survive."""

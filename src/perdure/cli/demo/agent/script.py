"""What is asked, and what the model of the demo (examples/helpdesk_model.py) says to it."""

from __future__ import annotations

from typing import Final

ORDER: Final = "o-17"
QUESTION: Final = f"Order {ORDER} was charged twice. Please help."
SAID: Final = (
    f"Let me look at order {ORDER}.",
    f"Order {ORDER} was charged twice: 42.00 euros belong to you. I ask somebody to agree to paying them back.",
    "It is agreed, and 42.00 euros are on their way to you. We are sorry for the trouble.",
)
"""The texts of the three turns."""

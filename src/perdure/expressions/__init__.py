"""The expression language of triggers, waits, cancellations and flow-control keys: a dialect of CEL.

    >>> from perdure.expressions import compile
    >>> compile("event.data.plan == 'pro'").truthy({"event": {"data": {"plan": "pro"}}}, now=0)
    True

`docs/expressions.md` describes the dialect. The room decides and computes; it does no input or output, and
takes the time as a parameter.
"""

from __future__ import annotations

from perdure.expressions.errors import EvaluationError, ExpressionError
from perdure.expressions.expression import VARIABLES, Expression, Partial, compile
from perdure.expressions.paths import lookup, match_expression, match_key
from perdure.expressions.values import UNKNOWN

__all__ = [
    "UNKNOWN",
    "VARIABLES",
    "EvaluationError",
    "Expression",
    "ExpressionError",
    "Partial",
    "compile",
    "lookup",
    "match_expression",
    "match_key",
]

"""SQL conditions on rows that constraints, partial indexes and queries share."""

from __future__ import annotations

from collections.abc import Iterable

from batchgen.jobs import Outcome, State


def one_of(column: str, values: Iterable[str]) -> str:
    """SQL: `column` holds one of `values`."""
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"


STATE_MAY_BE_PAID = one_of("state", (state for state in State if state.may_be_paid))
OUTCOME_MAY_BE_PAID = one_of("outcome", (outcome for outcome in Outcome if outcome.may_be_paid))
ATTEMPT_IS_OPEN = f"released_at IS NULL AND {OUTCOME_MAY_BE_PAID}"
ATTEMPT_IS_IN_FLIGHT = f"finished_at IS NULL AND {ATTEMPT_IS_OPEN}"
OUTPUT_IS_UNMEASURED = "delivered_at IS NOT NULL AND measured_at IS NULL"
OUTPUT_IS_SUSPECT = (
    "measured_at IS NOT NULL AND (black IS NULL OR black >= 0.5 OR frozen >= 0.5 OR unlike_input >= 0.55"
    " OR abs(seconds_off) > 0.5 OR copy_of IS NOT NULL)"
)
ATTEMPT_IS_UNCHARGED = f"cost_usd IS NULL AND outcome = '{Outcome.ACCEPTED}'"
SETTING_IS_CURRENT = "replaced_at IS NULL"
"""Conditions of partial indexes: a query repeats the same text, or the planner does not use the index."""

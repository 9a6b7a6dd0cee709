"""The joins and conditions of which most queries are made. What is joined to them needs no condition of its own, where
only one foreign key leads there."""

from __future__ import annotations

from sqlalchemy import bindparam

from batchgen.jobs import Outcome
from batchgen.jobtable.schema import attempts, jobs, outputs

ATTEMPTS = attempts.join(jobs, attempts.c.job_id == jobs.c.id)
"""All attempts, with their jobs."""
CURRENT_ATTEMPTS = jobs.join(attempts, (jobs.c.attempt_id == attempts.c.id) & (attempts.c.job_id == jobs.c.id))
"""The jobs that have one, with their current attempts. By the second condition, a few attempts lead to their jobs."""
CURRENT_OR_NONE = jobs.outerjoin(attempts, jobs.c.attempt_id == attempts.c.id)
"""All jobs, with their current attempts."""
CURRENT_FILES = jobs.join(outputs, jobs.c.attempt_id == outputs.c.attempt_id)
"""The files of current attempts, with their jobs."""

SENDING_ORDER = (jobs.c.rank.desc(), jobs.c.priority.desc(), jobs.c.id)
"""The order in which jobs are sent: a person's, then the manifest's priorities, then its order."""
IN_BATCH = jobs.c.batch_id == bindparam("in_batch")
IS_DELIVERED = outputs.c.delivered_at.is_not(None)

_may_be_paid = ", ".join(f"'{outcome}'" for outcome in Outcome if outcome.may_be_paid)
ATTEMPT_IS_OPEN = f"released_at IS NULL AND outcome IN ({_may_be_paid})"
ATTEMPT_IS_IN_FLIGHT = f"finished_at IS NULL AND {ATTEMPT_IS_OPEN}"
ATTEMPT_IS_UNCHARGED = f"cost_usd IS NULL AND outcome = '{Outcome.ACCEPTED}'"
OUTPUT_IS_SUSPECT = (
    "measured_at IS NOT NULL AND (black IS NULL OR black >= 0.5 OR frozen >= 0.5 OR unlike_input >= 0.55"
    " OR abs(seconds_off) > 0.5 OR copy_of IS NOT NULL)"
)
SETTING_IS_CURRENT = "replaced_at IS NULL"
"""The conditions of partial indexes: a query repeats the same text, or the planner does not use the index."""

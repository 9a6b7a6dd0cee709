"""The joins and conditions of which most queries are made. What is joined to them needs no condition of its own, where
only one foreign key leads there."""

from __future__ import annotations

from sqlalchemy import bindparam

from batchgen.jobtable.schema import attempts, jobs, outputs

ATTEMPTS = attempts.join(jobs, attempts.c.job_id == jobs.c.id)
"""All attempts, with their jobs."""
CURRENT_ATTEMPTS = jobs.join(attempts, (jobs.c.attempt_id == attempts.c.id) & (attempts.c.job_id == jobs.c.id))
"""The jobs that have one, with their current attempts. By the second condition, a few attempts lead to their jobs."""
CURRENT_OR_NONE = jobs.outerjoin(attempts, jobs.c.attempt_id == attempts.c.id)
"""All jobs, with their current attempts."""
CURRENT_FILES = jobs.join(outputs, jobs.c.attempt_id == outputs.c.attempt_id)
"""The files of current attempts, with their jobs."""

IN_BATCH = jobs.c.batch_id == bindparam("in_batch")
IS_DELIVERED = outputs.c.delivered_at.is_not(None)

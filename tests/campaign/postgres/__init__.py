"""Many machines on one PostgreSQL database, under faults: `python -m tests.campaign postgres`.

Eight processes of `batchgen run` share one batch, one server and one simulated service. They are killed, stopped, cut
off and given wrong clocks; then the audit of the other campaign holds the service's ledger against the job table and
the files, and `limits.py` holds every create request against the limits.
"""

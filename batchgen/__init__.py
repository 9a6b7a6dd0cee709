"""batchgen: a batch job runner for AI video generation.

A manifest of jobs becomes rows in a job table, and four small stages — scheduler, poller, downloader, reconciler — move
each row forward with guarded updates until its video lies on disk. The table alone is the truth; the process may die at
any instant, and the same command goes on.
"""

__version__ = "0.1.0"

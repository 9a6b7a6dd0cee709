"""The proof that batchgen never pays twice and never loses a paid video: `python -m tests.campaign --runs 200`.

The service is the simulator, as a process with a ledger on the disk; batchgen is `python -m batchgen run`, killed and
run again until it ends. Then the ledger, which batchgen cannot reach, is held against the job table and the files.
"""

"""The evidence that batchgen never pays twice and never loses a paid video: `python -m tests.campaign`.

The service is the simulator, as a process with a ledger on disk; batchgen is `python -m batchgen run`, killed and run
again until the batch ends. Then an audit holds the ledger, which batchgen cannot reach, against the job table and the
files.
"""

"""Bank reconciliation of a batch: the account's transactions and the service's log against the attempts of the table.

`settlements.py` judges, `books.py` has the rows of both sides, `reconcile.py` reads and records, `collect.py` fetches
what was paid for and is not here, `closing.py` is the short form at the end of a run.
"""

"""Bank reconciliation of a batch: the account's transactions and the service's log against the attempts of the table.

`settlements.py` judges, `books.py` has the rows of both sides, `reading.py` reads them, `reconcile.py` compares and
records, `collect.py` fetches what was paid for and is not here.
"""

"""Account books with planted discrepancies, of any size, and what `batchgen reconcile` says of them."""

"""The only writer of job rows.

Every function takes a connection and does its work within the caller's transaction. A transition is one UPDATE guarded
by the state (and the lease or attempt) that it leaves; where that finds no row, somebody else has decided, and the
function says so by returning False.
"""

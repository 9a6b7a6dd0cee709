"""The job table: everything of the database, and the only writer of its rows.

Every function takes a connection and works within the caller's transaction. A transition is one UPDATE guarded by the
state, and the lease or attempt, that it leaves. Where it matches no row it returns False: another run was first.
"""

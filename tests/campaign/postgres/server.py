"""What happens to the PostgreSQL server of a campaign, besides restarts."""

from __future__ import annotations

from tests.postgres import Server

DURABLE = "fsync=on"
"""A setting: the server dies in the middle of its work."""


def slow_down(server: Server, microseconds: int) -> None:
    """Wait so long before each flush of the write-ahead log to the disk, as a slow disk would; 0 is no wait."""
    for setting in (f"commit_delay = {microseconds}", "commit_siblings = 0"):
        server.ask(server.url("postgres"), f"ALTER SYSTEM SET {setting}")
    server.ask(server.url("postgres"), "SELECT pg_reload_conf()")


def sessions(server: Server, database: str) -> list[int]:
    """The process ids of the sessions of a database."""
    sql = f"SELECT pid FROM pg_stat_activity WHERE datname = '{database}' ORDER BY pid"
    return [row["pid"] for row in server.ask(server.url("postgres"), sql)]


def cut(server: Server, pid: int) -> None:
    """End a session in the middle of whatever it does."""
    server.ask(server.url("postgres"), f"SELECT pg_terminate_backend({pid})")

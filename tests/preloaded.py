"""What the server of `forks.py` imports before it forks: the modules of batchgen, and the databases of the tests."""

from __future__ import annotations

import sqlalchemy.dialects.sqlite  # noqa: F401 - else imported by the first engine, and not every fork may read it

from batchgen.cli import COMMANDS, load

for name in COMMANDS:
    load(name)

"""The services that are installed: plug-ins of the entry-point group `batchgen.services`, loaded when one is named."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from batchgen.errors import UsageError
from batchgen.services.account import Account, Variables
from batchgen.services.base import Service
from batchgen.services.boundary import BoundedService

GROUP = "batchgen.services"
DEFAULT = "aimlapi"
"""The service of a manifest that names none."""
SIMULATOR = "simulator"
"""The service that costs nothing: its jobs have a batch and a folder of their own."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """What a service offers: an entry point of `GROUP`, with the service's name, leads to one."""

    variables: Variables
    connect: Callable[[Account, Path | None], AbstractAsyncContextManager[Service]]
    """Connects to the service. The path is of a file beside the job table, for a service that keeps state itself."""
    handle_of: Callable[[str, str], Mapping[str, Any]]
    """The handle of a generation that a person names, by its id and the endpoint of its job."""

    @asynccontextmanager
    async def open(self, account: Account, state: Path | None) -> AsyncIterator[Service]:
        """The service behind the boundary that every answer has to pass."""
        async with self.connect(account, state) as service:
            yield BoundedService(service, account.key)


@cache
def names() -> tuple[str, ...]:
    """The names of all installed services, sorted. Loads none of them."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


@cache
def plugin(name: str) -> Plugin:
    """The service of this name. Raises `UsageError` where it is not installed or cannot be loaded."""
    points = entry_points(group=GROUP, name=name)
    if not points:
        raise UsageError(f"there is no service {name!r} here; installed: {', '.join(names())}")
    try:
        loaded = next(iter(points)).load()
    except Exception as error:
        raise UsageError(f"the service {name!r} cannot be loaded: {error}") from error
    if not isinstance(loaded, Plugin):
        raise UsageError(f"the service {name!r} cannot be used: its entry point leads to no `Plugin`")
    return loaded

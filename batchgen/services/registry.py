"""The services that are installed: plug-ins of the entry-point group `batchgen.services`, loaded when one is named."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import astuple, dataclass, replace
from decimal import localcontext
from functools import cache, partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from batchgen.errors import BatchgenError, UsageError
from batchgen.services.account import Account, Variables
from batchgen.services.base import Service
from batchgen.services.boundary import BoundedService
from batchgen.services.text import MESSAGE_CHARS, error_words, one_line, without_key

LOG = logging.getLogger("batchgen.services")
GROUP = "batchgen.services"
DEFAULT = "aimlapi"
"""The service of a manifest that names none."""
SIMULATOR = "simulator"
"""The service that costs nothing: its jobs have a batch and a folder of their own."""
CONNECT_SECONDS = 60.0  # to connect to a service, and to leave it


@dataclass(frozen=True, slots=True)
class Plugin:
    """What a service offers: an entry point of `GROUP`, with the service's name, leads to one."""

    variables: Variables
    connect: Callable[[Account, Path | None], AbstractAsyncContextManager[Service]]
    """Connects to the service. The path is of a file beside the job table, for a service that keeps state itself."""
    handle_of: Callable[[str, str], Mapping[str, Any]]
    """The handle of a generation that a person names, by its id and the endpoint of its job."""
    name: str = ""
    """That of its entry point, which `plugin` adds: the service has the same."""

    @asynccontextmanager
    async def open(self, account: Account, state: Path | None) -> AsyncIterator[Service]:
        """The service behind the boundary that every answer has to pass. Raises `UsageError` where there is none."""
        connected, over = asyncio.get_running_loop().create_future(), asyncio.Event()
        # A task of its own: a task group in it that breaks cancels the task, and not the run.
        connection = asyncio.create_task(self.keep_connected(account, state, connected, over))
        try:
            await asyncio.wait([connection, connected], timeout=CONNECT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            yield self.bounded(connection, connected, account.key)
        finally:
            over.set()
            if connected.cancel():
                connection.cancel()
            await leave(connection, account.key, was_connected=not connected.cancelled())

    async def keep_connected(
        self, account: Account, state: Path | None, connected: asyncio.Future[Service], over: asyncio.Event
    ) -> BaseException | None:
        """Connect, and end the connection once it is over. Returns what the plug-in raises meanwhile."""
        try:
            async with self.connect(account, state) as service:
                connected.set_result(service)
                await over.wait()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return error
        return None

    def bounded(
        self, connection: asyncio.Task[BaseException | None], connected: asyncio.Future[Service], key: str
    ) -> BoundedService:
        """The connected service, bounded. Raises `UsageError`, and a `BatchgenError` of the plug-in."""
        try:
            if not connected.done():
                raise (connection.done() and connection.result()) or TimeoutError(f"within {CONNECT_SECONDS:g} seconds")
            service = BoundedService(connected.result(), key)
        except BatchgenError:
            raise
        except BaseException as error:
            raise UsageError(f"the plug-in of the service does not connect: {describe(error, key)}") from error
        if self.name not in ("", service.name):
            raise UsageError(f"the plug-in of the service {self.name!r} calls it {service.name!r}: it has one name")
        return service


async def leave(connection: asyncio.Task[BaseException | None], key: str, *, was_connected: bool) -> None:
    """Wait for the end of a connection. One that cannot be ended changes nothing of what was done with it."""
    await asyncio.wait([connection], timeout=CONNECT_SECONDS)
    error = connection.result() if connection.done() else TimeoutError(f"within {CONNECT_SECONDS:g} seconds")
    if error and was_connected:
        LOG.warning("service.not_closed", extra={"reason": describe(error, key)})


def describe(error: BaseException, key: str) -> str:
    return one_line(without_key(error_words(error), key), MESSAGE_CHARS)


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
    if len({point.value for point in points}) > 1:
        packages = ", ".join(sorted(point.dist.name for point in points if point.dist))
        raise UsageError(f"several packages have a service {name!r}: {packages}. Uninstall all but one of them")
    try:
        with localcontext():  # of decimals: a plug-in may change that of its own
            loaded = next(iter(points)).load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UsageError(f"the service {name!r} cannot be loaded: {describe(error, '')}") from error
    if not isinstance(loaded, Plugin) or not isinstance(loaded.variables, Variables):
        raise UsageError(f"the service {name!r} cannot be used: its entry point leads to no `Plugin`")
    if not all(isinstance(variable, str) for variable in astuple(loaded.variables)):
        raise UsageError(f"the service {name!r} cannot be used: its `Variables` are no texts")
    return replace(loaded, handle_of=partial(handle_of, loaded), name=name)


def handle_of(plugin: Plugin, generation_id: str, endpoint: str) -> Mapping[str, Any]:
    """The handle that a plug-in makes. Raises `UsageError` where it makes none that can be stored."""
    try:
        handle = dict(plugin.handle_of(generation_id, endpoint))
        json.dumps(handle, allow_nan=False)
    except BaseException as error:  # A `SystemExit` would end the command without a word.
        raise UsageError(
            f"the plug-in of the service makes no handle of {generation_id}: {describe(error, '')}"
        ) from error
    return handle

"""The command `batchgen models`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchgen import clock
from batchgen.api.event_loop import complete
from batchgen.catalogue import links, register, rules, validation
from batchgen.cli import options
from batchgen.errors import DatabaseNewer, ServiceUnreachable, StorageError, UsageError
from batchgen.report.models import RETIRED, learned_note, model_json, model_lines, price
from batchgen.report.terminal import print_lines, show
from batchgen.services import registry

if TYPE_CHECKING:
    from batchgen.jobtable.database import Database
    from batchgen.jobtable.pricelist import PriceList

UNKNOWN_KINDS = "newer than this catalogue: run it with --no-validate"


@click.argument("words", nargs=-1)
@options.db
@click.option(
    "--refresh", is_flag=True, help="First get the service's list of models and prices, and store it in the job table."
)
@options.json_lines
def command(words: tuple[str, ...], db: str | None, refresh: bool, as_json: bool) -> None:
    """WORDS is the name of one model, or filters that all match: a part of the name (v2.1), a type (text-to-video), a
    parameter (tail_image_url).

    Prices are the last that are stored in the job table.
    """
    prices = prices_at_hand(db, refresh)
    pricing = prices.pricing if prices else {}
    if name := register.model_of(words[0]) if len(words) == 1 else None:
        entry = pricing.get(name)
        lines = model_lines(name, entry, prices.listed_at if prices and entry else None)
        show(model_json(name, entry, with_schemas=True), *lines, as_json=as_json)
        return
    for model in matching_models(words, sorted(pricing)):
        kinds = ", ".join(links.kinds(model)) if register.is_known(model) else UNKNOWN_KINDS
        kinds += learned_note(model) + (RETIRED if rules.is_retired(model) else "")
        cost = f"  {price(pricing[model])}" if model in pricing else ""
        event = model_json(model, pricing.get(model), with_schemas=False)
        show(event, f"{model:56}  {kinds}{cost}", as_json=as_json)


def matching_models(words: tuple[str, ...], listed: list[str]) -> list[str]:
    """The models, also newer ones that the service lists, that match every word. Raises `UsageError` for none."""
    newer = [model for model in listed if register.model_of(model) not in register.models()]
    models = [model for model in (*register.models(), *newer) if all(matches(model, word.casefold()) for word in words)]
    if not models:
        nearest = register.nearest(" ".join(words))
        hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
        raise UsageError(f"no model has {' and '.join(words)} in its name, its types or its parameters.{hint}")
    return models


def matches(model: str, word: str) -> bool:
    """Whether a word is part of a model's name, or one of its types or parameters."""
    if word in model.casefold() or not register.is_known(model):
        return word in model.casefold()
    if word in links.kinds(model):
        return True
    return any(word in validation.parameters(model, endpoint) for endpoint in register.endpoints(model))


def prices_at_hand(db: str | None, refresh: bool) -> PriceList | None:
    """The stored prices. The models are told without them where nobody named the job table, and it cannot be read."""
    try:
        prices = stored_prices(db or "batchgen.db", refresh)
    except (StorageError, DatabaseNewer) as error:
        if db or refresh:
            raise
        first, *_ = str(error).split("\n")
        print_lines(f"no stored prices: {first}", err=True)
        return None
    if not prices or not prices.pricing:
        refreshed = f"`batchgen models --refresh` gets those of {registry.DEFAULT}, without a key"
        print_lines(f"no stored prices: {refreshed}", err=True)
    return prices


def stored_prices(location: str | Path, refresh: bool) -> PriceList | None:
    """The price list in the job table, after getting a new one if `refresh`; None where there is no table.

    Raises `ServiceUnreachable` where a new list cannot be had.
    """
    if not refresh and not os.path.lexists(location) and "://" not in str(location):
        return None
    from batchgen.jobtable import pricelist
    from batchgen.jobtable.database import Database  # It takes longer to import than all else here.

    with Database(location) as database:
        if refresh:
            complete(refresh_from_service(database))
        database.read_now(pricelist.learn_models, registry.DEFAULT)
        return database.read_now(pricelist.load, registry.DEFAULT)


async def refresh_from_service(database: Database) -> None:
    from batchgen.jobtable import pricelist
    from batchgen.limits.accounting import refresh_prices
    from batchgen.services.account import read_public_account
    from batchgen.services.model_documents import fetch_schemas

    plugin = registry.plugin(registry.DEFAULT)
    async with plugin.open(read_public_account(plugin.variables, Path.cwd()), None) as service:
        if not await refresh_prices(database, service, clock.utcnow()):
            raise ServiceUnreachable(f"{service.base_url} gives no price list; the stored one is kept")
        documents = await database.read(pricelist.documents, registry.DEFAULT)
        schemas = await fetch_schemas(documents, service.base_url)
        await database.write(pricelist.store_schemas, registry.DEFAULT, schemas, clock.utcnow())

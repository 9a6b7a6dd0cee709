"""`batchgen models`: what the catalogue holds."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchgen import catalogue, clock
from batchgen.cli.options import db_option, is_there, json_option
from batchgen.errors import ServiceUnreachable, UsageError
from batchgen.report.models import model_json, price, told

if TYPE_CHECKING:
    from batchgen.jobtable.database import Database
    from batchgen.jobtable.pricelist import PriceList

SERVICE = "aimlapi"
NEWER = "newer than this catalogue: run it with --no-validate"


@click.command(name="models")
@click.argument("words", nargs=-1)
@db_option
@click.option(
    "--refresh", is_flag=True, help="Take the service's list first, models and prices, and keep it in the job table."
)
@json_option
def command(words: tuple[str, ...], db: str | None, refresh: bool, as_json: bool) -> None:
    """List the models, or show what one takes and costs.

    WORDS is the name of one model, or what all shown models have: a part of the name (kling), a type (text-to-video), a
    parameter (tail_image_url). Prices are the last that are known in the job table: ./batchgen.db, or the one of --db.
    """
    prices = known_prices(db or Path("batchgen.db"), refresh)
    pricing = prices.pricing if prices else {}
    name = catalogue.model_of(words[0]) if len(words) == 1 else None
    if name:
        if as_json:
            click.echo(json.dumps(model_json(name, pricing.get(name), whole=True), ensure_ascii=False))
            return
        for line in told(name, pricing.get(name), prices.listed_at if prices and name in pricing else None):
            click.echo(line)
        return
    newer = [model for model in sorted(pricing) if not catalogue.known(model)]
    found = [model for model in (*catalogue.models(), *newer) if all(fits(model, word.casefold()) for word in words)]
    if not found:
        close = catalogue.nearest(" ".join(words))
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UsageError(f"no model has {' and '.join(words)} in its name, its types or its parameters.{hint}")
    for model in found:
        if as_json:
            click.echo(json.dumps(model_json(model, pricing.get(model), whole=False), ensure_ascii=False))
        else:
            kinds = ", ".join(catalogue.kinds(model)) if catalogue.known(model) else NEWER
            cost = f"  {price(pricing[model])}" if model in pricing else ""
            click.echo(f"{model:56}  {kinds}{cost}")


def fits(model: str, word: str) -> bool:
    """Whether a model has this in its name, its types or its parameters."""
    if word in model.casefold() or not catalogue.known(model):
        return word in model.casefold()
    if word in catalogue.kinds(model):
        return True
    return any(word in catalogue.parameters(model, endpoint) for endpoint in catalogue.endpoints(model))


def known_prices(place: str | Path, refresh: bool) -> PriceList | None:
    """The last known price list, renewed if that is asked for; None where there is no table to know one.

    Raises `ServiceUnreachable` where a new list cannot be had.
    """
    if not refresh and not is_there(place):
        return None
    from batchgen.jobtable import pricelist
    from batchgen.jobtable.database import Database  # takes longer to import than all else here

    with Database(place) as database:
        if refresh:
            asyncio.run(renew(database))
        return database.look(pricelist.known, SERVICE)


async def renew(database: Database) -> None:
    from batchgen.cli.session import calling
    from batchgen.jobtable import pricelist
    from batchgen.services.settings import read_base_url

    last = await database.read(pricelist.known, SERVICE)
    async with calling(read_base_url(Path.cwd()), "") as service:
        listing = await service.catalogue(last.etag)
    if listing is None:
        raise ServiceUnreachable(f"{service.base_url} gives no price list; what was known before is kept")
    await database.write(pricelist.keep, SERVICE, listing, clock.utcnow())

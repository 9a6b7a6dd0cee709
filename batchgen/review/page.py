"""The review page as HTML: a template with data, style and script in it, under a policy that allows no other.

The script and the style are named in the policy by their hashes: a prompt, an id or an error can never run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from sqlalchemy import Connection

from batchgen.files.verdicts_file import CLIP_DIGITS
from batchgen.jobtable import clips as clip_rows
from batchgen.jobtable import ledger
from batchgen.jobtable.batches import StoredBatch
from batchgen.jobtable.clips import CHANGES_AT_ONCE, Marks
from batchgen.report.words import APPEARANCES, uncharged_words
from batchgen.review.charts import ChartData, charts
from batchgen.review.data import ClipData, as_script, whole
from batchgen.services.registry import SIMULATOR

GENERATOR = "batchgen report"
"""Marks a page as one of ours, which may be replaced by a newer one."""
TEMPLATE = "page.html"
STYLES = ("page.css", "card.css", "viewer.css")
SCRIPTS = (
    *("data.js", "state.js", "filter.js", "controls.js", "verdicts.js", "card.js", "grid.js", "matrix.js", "player.js"),
    *("viewer.js", "keys.js", "live.js", "main.js"),
)
"""In this order they are one script: what runs at once stands in the last one."""


@dataclass(frozen=True, slots=True)
class PageData:
    """What a review page is made of."""

    batch: str
    document: Mapping[str, Any]
    charts: str
    posters: Mapping[str, bytes]
    """Those that belong to it, by their short names on the page."""


def read_page(connection: Connection, batch: StoredBatch, posters: Mapping[str, bytes] | None = None) -> PageData:
    """The page of a batch with these posters, by the SHA-256 of their files; without any, the page that is served."""
    data, chart_data, by_name = ClipData(posters), ChartData(), {}
    marks = clip_rows.newest(connection, batch.id)
    for clip in clip_rows.clips(connection, batch.id):
        data.add(clip)
        chart_data.add(clip)
        if posters and clip.files and (poster := posters.get(clip.files[0].sha256)):
            by_name[clip.files[0].sha256[:CLIP_DIGITS]] = poster
    document = {
        **data.document(),
        "batch": batch.name,
        "simulated": batch.service == SIMULATOR,
        "served": posters is None,
        "began": round(min(chart_data.sent).timestamp()) if chart_data.sent else 0,
        "marks": marks,
        "uncharged": uncharged_text(connection, batch.id),
        "missing": {state: appearance.without_file for state, appearance in APPEARANCES.items()},
    }
    return PageData(batch.name, document, charts(chart_data, ledger.spend_by_model(connection, batch.id)), by_name)


def read_changes(connection: Connection, batch_id: int, marks: Marks) -> dict[str, Any]:
    """What has changed since the marks of a served page. Raises `ValueError` for a mark that is no time."""
    rows, marks = clip_rows.changed_since(connection, batch_id, marks)
    data = ClipData()
    for clip in clip_rows.clips(connection, batch_id, rows) if rows else ():
        data.add(clip)
    rest = {"uncharged": uncharged_text(connection, batch_id), "most": CHANGES_AT_ONCE, "marks": marks}
    return {**data.document(), **rest}


def read_whole(connection: Connection, batch_id: int, row_id: int) -> dict[str, str] | None:
    """The texts of a job that its card shows cut; None where the batch has no such job."""
    return next(map(whole, clip_rows.clips(connection, batch_id, [row_id])), None)


def uncharged_text(connection: Connection, batch_id: int) -> str:
    """What the costs of the clips leave out, in words."""
    totals = ledger.totals(connection, batch_id)
    return uncharged_words(totals.unpriced, totals.reserved)


def render(
    page: PageData, document: Mapping[str, Any], policy: str = "", inline: Mapping[str, str] | None = None
) -> str:
    """The page as HTML. `inline` has posters in base64, by their short names."""
    from minijinja import Environment

    environment = Environment(templates={TEMPLATE: asset(TEMPLATE)})
    html: str = environment.render_template(
        TEMPLATE,
        batch=page.batch,
        charts=page.charts,
        data=as_script(document),
        generator=GENERATOR,
        policy=policy,
        posters=as_script(inline) if inline else "",
        script=script(),
        style=style(),
    )
    return html


def policy(*, media: str, connect: str = "'none'") -> str:
    """The Content-Security-Policy: our script, our style, posters and videos from `media`, and nothing else."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{digest(script())}'",
            f"style-src '{digest(style())}'",
            f"img-src data: {media}",
            f"media-src {media}",
            f"connect-src {connect}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def digest(text: str) -> str:
    """The hash by which a policy names an inline script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def script() -> str:
    """Our script, without comments and blanks. `jsmin` takes blanks out of a template literal in another one."""
    from rjsmin import jsmin

    minified = jsmin("".join(map(asset, SCRIPTS)))
    return f'(() => {{\n"use strict";\n{minified}\n}})();'


@cache
def style() -> str:
    from rcssmin import cssmin

    return str(cssmin("".join(map(asset, STYLES))))


def asset(name: str) -> str:
    return files("batchgen.review").joinpath("assets", name).read_text("utf-8")

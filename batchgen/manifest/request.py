"""The body of a create call: what an entry asks for, held against the catalogue, its local files found."""

from __future__ import annotations

import re
from typing import Any

from batchgen import catalogue
from batchgen.catalogue import Link, Violation, pointers
from batchgen.manifest import words
from batchgen.manifest.header import OWN, SUGGESTED
from batchgen.manifest.written import Written

HTTP = re.compile(r"https?://[^\s/?#]+\S*", re.IGNORECASE)
DATA = re.compile(r"data:[^,\s]*,", re.IGNORECASE)
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:", re.IGNORECASE)

Params = dict[str, Any]


def complete(entry: Written, model: str, endpoint: str, params: Params) -> tuple[Params, tuple[str, ...]]:
    """The parameters as they are sent, and the pointers of local files among them."""
    known = catalogue.known(model)
    if entry.origin and entry.origin.take:
        vary_seed(entry, params, known and "seed" in catalogue.parameters(model, endpoint))
    if known:
        params, violations = catalogue.checked(model, endpoint, params, SUGGESTED)
        if entry.jobs.validate:
            for violation in violations:
                blame(entry, violation)
            refuse_null_of_nothing(entry, model, catalogue.parameters(model, endpoint))
    files = []
    for link in media(entry, model, endpoint, params) if known else catalogue.likely_media(params):
        if not HTTP.fullmatch(link.value) and not DATA.match(link.value):
            files.append(link.pointer)
            path = find(entry, link)
            if path != link.value:
                params = pointers.replaced(params, link.pointer, path)
    return params, tuple(files)


def media(entry: Written, model: str, endpoint: str, params: Params) -> list[Link]:
    """The links and files among the parameters of a known model, with those it may have got since."""
    found = catalogue.media(model, endpoint, params)
    if not entry.jobs.validate:
        taken = catalogue.parameters(model, endpoint)
        found += catalogue.likely_media({name: value for name, value in params.items() if name not in taken})
    return found


def vary_seed(entry: Written, params: Params, takes_seed: bool) -> None:
    """Another seed for each take, the same ones every time, unless the job does so itself or wants none."""
    assert entry.origin is not None
    node = entry.fields.get("seed")
    take = entry.origin.take
    if node is None:
        if takes_seed:
            params["seed"] = take
    elif "seed" in params and not entry.uses(node, "take"):
        base = params["seed"]
        if type(base) is str and catalogue.INTEGER.fullmatch(base):
            base = int(base)
        if type(base) is int:
            params["seed"] = base + take - 1


def find(entry: Written, link: Link) -> str:
    """The path of the local file behind a link, relative to the main manifest; a finding if it cannot be sent."""
    value = link.value
    where = entry.at(link.pointer)
    if link.medium != "image":
        message = f"a {link.medium} must be a link: only images are sent from local files"
        entry.blame(where, message, "begin with https://")
    elif SCHEME.match(value):
        entry.blame(where, "an image must be a link (http, https), a data URI or a local path")
    else:
        path = entry.sheet.folder.join(value)
        jobs = entry.jobs
        if (fault := jobs.images.fault(path)) and entry.current not in jobs.settled(jobs.header.batch):
            entry.blame(where, fault)
        return path
    return value


def refuse_null_of_nothing(entry: Written, model: str, taken: tuple[str, ...]) -> None:
    """A null that drops neither a default nor a parameter is a misspelt one, and leaves in what it should drop."""
    for name, value in entry.node.value.items():
        if value.value is None and not (name in OWN or name in taken or name in entry.sheet.header.defaults):
            message = f"`{model}` does not take `{name[:100]}`"
            entry.blame(entry.key(name), message, words.nearest(name, (*taken, *SUGGESTED)))


def blame(entry: Written, violation: Violation) -> None:
    """Put a violation where its value stands, or its key if the name itself is wrong."""
    *parents, name = pointers.split(violation.pointer) or [""]
    root = parents[0] if parents else name
    hint = violation.hint
    if root and root not in entry.node.value:
        hint = "; ".join(filter(None, (hint, f"this default applies to the job on line {entry.line}")))
    if not violation.unknown:
        entry.blame(entry.at(violation.pointer), violation.message, hint)
    elif parents:
        holder = entry.at(violation.pointer.rpartition("/")[0])
        entry.blame(holder.keys.get(name, holder), violation.message, hint)
    else:
        entry.blame(entry.key(name), violation.message, hint)

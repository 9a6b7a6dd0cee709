"""The body of a create call: parameters checked against the catalogue, local files found, seeds for the takes."""

import re
from copy import deepcopy
from typing import Any

from batchgen import catalogue
from batchgen.catalogue import Link, Violation, pointers
from batchgen.catalogue.wording import suggestion
from batchgen.manifest.job_keys import JOB_KEYS
from batchgen.manifest.job_list import Entry, JobList

HTTP = re.compile(r"https?://[^\s/?#]+\S*", re.IGNORECASE)
DATA = re.compile(r"data:[^,\s]*,", re.IGNORECASE)
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:", re.IGNORECASE)

Params = dict[str, Any]


def complete(
    jobs: JobList, entry: Entry, key: str | None, model: str, endpoint: str, params: Params
) -> tuple[Params, tuple[str, ...]]:
    """The parameters as they will be sent, and the JSON pointers of the local files among them.

    What the model would refuse is reported, and so are files that cannot be sent. `key` is the job's id.
    """
    documented = jobs.documents(model)
    accepted = catalogue.parameters(model, endpoint) if documented else ()
    if entry.origin and entry.origin.take:
        vary_seed(jobs, entry, entry.origin.take, params, accepted)
    if documented:
        params, violations = catalogue.checked(model, endpoint, params, JOB_KEYS)
        if jobs.validate:
            for violation in violations:
                report(entry, violation)
            report_useless_nulls(entry, model, accepted)
    # A parameter that the model does not take was reported as such; its file need not exist.
    ignored = () if not documented or not jobs.validate else params.keys() - accepted
    files = []
    for link in catalogue.media({name: value for name, value in params.items() if name not in ignored}):
        if not HTTP.fullmatch(link.value) and not DATA.match(link.value):
            files.append(link.pointer)
            path = local_path(jobs, entry, key, link)
            if path != link.value:
                params = deepcopy(params)  # jobs of the same entry share the values
                container, name = pointers.parent_of(params, link.pointer)
                container[name] = path
    return params, tuple(files)


def vary_seed(jobs: JobList, entry: Entry, take: int, params: Params, accepted: tuple[str, ...]) -> None:
    """Give each take another seed, the same one in every run.

    A seed of null, or one with `{{ take }}` in it, stays as it is.
    """
    node = entry.fields.get("seed")
    if node is None:
        if "seed" in accepted:
            params["seed"] = take
    elif "seed" in params and not jobs.templates.uses(node, "take"):
        seed = params["seed"]
        if type(seed) is str and catalogue.INTEGER.fullmatch(seed):
            seed = int(seed)
        if type(seed) is int:
            params["seed"] = seed + take - 1


def local_path(jobs: JobList, entry: Entry, key: str | None, link: Link) -> str:
    """The path of a local file, relative to the main manifest. A file that cannot be sent is reported."""
    node = entry.at(link.pointer)
    if link.medium != "image":
        message = f"a {link.medium} must be a link: only images are sent from local files"
        entry.report(node, message, "begin with https://")
        return link.value
    if SCHEME.match(link.value):
        entry.report(node, "an image must be a link (http, https), a data URI or a local path")
        return link.value
    path = entry.file.folder.join(link.value)
    if (fault := jobs.image_fault(path)) and key not in jobs.already_sent(jobs.header.batch, jobs.header.service.name):
        entry.report(node, fault)
    return path


def report_useless_nulls(entry: Entry, model: str, accepted: tuple[str, ...]) -> None:
    """Report a null that drops neither a default nor a parameter: its name is misspelt."""
    for name, node in entry.node.value.items():
        if node.value is None and not (name in JOB_KEYS or name in accepted or name in entry.file.header.defaults):
            message = f"`{model}` does not take `{name[:100]}`"
            entry.report(entry.key_position(name), message, suggestion(name, (*accepted, *JOB_KEYS)))


def report(entry: Entry, violation: Violation) -> None:
    """Report a violation at the value; at its key where the name itself is wrong."""
    *parents, name = pointers.split(violation.pointer) or [""]
    parameter = parents[0] if parents else name
    hint = violation.hint
    if parameter and not entry.own(parameter):
        hint = "; ".join(filter(None, (hint, f"this default applies to the job on line {entry.line}")))
    if not violation.unknown:
        entry.report(entry.at(violation.pointer), violation.message, hint)
    elif parents:
        parent = entry.at(violation.pointer.rpartition("/")[0])
        entry.report(parent.keys.get(name, parent), violation.message, hint)
    else:
        entry.report(entry.key_position(name), violation.message, hint)

"""The body of a create call: parameters checked against the catalogue, local files found, seeds for the takes."""

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from batchgen import catalogue
from batchgen.catalogue import Link, Violation, pointers
from batchgen.catalogue.rules import image_fault, schemes
from batchgen.catalogue.wording import suggestion
from batchgen.files.input_file import InputFault
from batchgen.files.media import inspect_text, is_base64
from batchgen.manifest import bounds
from batchgen.manifest.job_keys import JOB_KEYS, MULTIPLIERS
from batchgen.manifest.job_list import Entry, JobList
from batchgen.manifest.nodes import Node

HTTP = re.compile(r"https?://", re.IGNORECASE)
LINK = re.compile(r"[a-z]+://[^\s/?#]\S*", re.IGNORECASE)
DATA = re.compile(r"data:", re.IGNORECASE)
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,30}://")

NOUNS = {"image": "an image", "video": "a video", "audio": "a sound"}

Params = dict[str, Any]


def complete(
    jobs: JobList, entry: Entry, key: str | None, model: str, endpoint: str, params: Params, extra: Params
) -> tuple[Params, tuple[str, ...]]:
    """The parameters as they will be sent, and the JSON pointers of the local files among them.

    What the model would refuse is reported, and so are files that cannot be sent. `key` is the job's id. The parameters
    in `extra` are sent as they are.
    """
    documented = jobs.documents(model)
    accepted = catalogue.parameters(model, endpoint) if documented else ()
    if entry.origin and entry.origin.take:
        vary_seed(jobs, entry, entry.origin.take, params, accepted)
    if documented:
        params, violations = catalogue.checked(model, endpoint, {**params, **extra}, JOB_KEYS)
        if jobs.validate:
            for violation in violations:
                if pointers.split(violation.pointer)[:1] not in [[name] for name in extra]:
                    report(entry, violation)
            report_useless_nulls(entry, model, accepted)
    params = {**params, **extra}
    # A parameter that the model does not take was reported as such; its file need not exist.
    ignored = {*extra, *(params.keys() - accepted if documented and jobs.validate else ())}
    files = []
    for link in catalogue.media({name: value for name, value in params.items() if name not in ignored}):
        path = local_path(jobs, entry, key, model, link)
        if path is not None:
            files.append(link.pointer)
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


def local_path(jobs: JobList, entry: Entry, key: str | None, model: str, link: Link) -> str | None:
    """The path of a local file, relative to the main manifest; None for a medium that is no local file.

    A medium that cannot be sent is reported.
    """
    node, medium, value = entry.at(link.pointer), link.medium, link.value
    if HTTP.match(value) or value.startswith(schemes(catalogue.canonical(model), parameter_of(link))):
        if len(value) > bounds.LINK_CHARS:
            entry.report(node, f"the link has {len(value):,} characters; at most {bounds.LINK_CHARS:,} are allowed")
        elif not LINK.fullmatch(value):
            entry.report(node, "a link has no spaces and names a host", "such as https://example.com/a.png")
        return None
    is_text = DATA.match(value) is not None or is_base64(value, medium)
    if not is_text and SCHEME.match(value):
        entry.report(node, f"{NOUNS[medium]} must be a link (http, https), a data URI or a local path")
        return None
    path = entry.file.folder.join(value)
    try:
        inspected = inspect_text(value, medium) if is_text else jobs.local_medium(path, medium)
        fault = image_fault(catalogue.canonical(model), inspected) if medium == "image" and jobs.validate else None
    except InputFault as error:
        fault = str(error)
    # The file of a job that was sent may be gone.
    if fault and (is_text or key not in jobs.already_sent(jobs.header.batch, jobs.header.service.name)):
        entry.report(node, fault)
    return None if is_text else path


def parameter_of(link: Link) -> str:
    """The outermost parameter in which a link stands."""
    return pointers.split(link.pointer)[0]


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


def values_in(fields: Mapping[str, Any]) -> int:
    """The number of values at any depth in nodes or in what they were filled with, counted little beyond the bound."""
    number = len(fields)
    waiting = [value for name, value in fields.items() if name not in MULTIPLIERS]
    while waiting and number <= bounds.REQUEST_VALUES:
        value = waiting.pop()
        value = value.value if type(value) is Node else value
        if type(value) is dict:
            waiting += value.values()
            number += len(value)
        elif type(value) is list:
            waiting += value
            number += len(value)
    return number
